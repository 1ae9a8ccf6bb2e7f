"""Event data is truncated to its limit, and keeps the shape that clients use."""

from __future__ import annotations

from typing import Any

import pytest

from realtime.events.truncation import truncate_json
from realtime.protocol.channels import MAX_ID_CHARACTERS
from realtime.protocol.payload import decode_object, encode_data

MAX_BYTES = 64 * 1024
LONGEST_ID = "w" * MAX_ID_CHARACTERS

LARGE_RESULTS: list[Any] = [
    {"output": "x" * 1_000_000},
    {"output": "\N{SNOWMAN}" * 1_000_000},
    {"rows": [{"text": "y" * 1000, "numbers": list(range(100))} for _ in range(1000)]},
    {f"key_{number}": "z" * 100 for number in range(10_000)},
    [[["deep" * 1000] * 100] * 100],
    "plain " * 100_000,
]


def test_data_within_the_limit_is_unchanged() -> None:
    data = {"workflow_id": "wf_1", "result": {"output": "x" * 1000}}
    assert truncate_json(data, max_bytes=MAX_BYTES) == encode_data(data)


@pytest.mark.parametrize("result", LARGE_RESULTS, ids=range(len(LARGE_RESULTS)))
def test_data_beyond_the_limit_is_truncated_and_flagged(result: Any) -> None:
    text = truncate_json({"workflow_id": LONGEST_ID, "result": result, "duration_ms": 7}, max_bytes=MAX_BYTES)
    data = decode_object(text)
    assert len(text.encode()) <= MAX_BYTES
    assert (data["workflow_id"], data["duration_ms"], data["truncated"]) == (LONGEST_ID, 7, True)
    assert type(data["result"]) is type(result)
    assert data["result"]


def test_too_many_top_level_keys_are_rejected_with_their_size() -> None:
    data = {f"key_{number}": "x" * 100 for number in range(10_000)}
    with pytest.raises(ValueError, match=r"takes \d+ bytes: expected at most 65536, even when truncated"):
        truncate_json(data, max_bytes=MAX_BYTES)
