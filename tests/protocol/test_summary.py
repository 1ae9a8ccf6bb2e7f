"""What `summary` makes of the events of `global`."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from realtime.events.types import EVENT_TYPES
from realtime.protocol.messages import EventRecord, decode_event, encode_event
from realtime.protocol.payload import encode_data
from realtime.protocol.summary import LEFT_OUT, summarize, summarize_message

AT = datetime(2026, 2, 10, 20, 0, 0, 123456, tzinfo=UTC)


def record(name: str, data: Any) -> EventRecord:
    return EventRecord(2**40, "5f0c6d0e-58f3-4b8c-9f1e-3f0d7a4f0b53", name, AT, encode_data(data))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({}, {}),
        ({"workflow_id": "a", "status": {"result": 1}}, {"workflow_id": "a", "status": {"result": 1}}),
        ({"a": 1, "result": {"x": ["é" * 9]}, "b": None}, {"a": 1, "b": None}),
        ({"params": None, "stages": [1], "result": 0, "c": 1.5}, {"c": 1.5}),
        ({"prompt": "é" * 200, "z": 1}, {"prompt": "é" * 200, "z": 1}),
        ({"prompt": "\U0001f600" * 201, "z": 1}, {"prompt": "\U0001f600" * 199 + "…", "z": 1}),
        ({"prompt": ["not", "text"]}, {"prompt": ["not", "text"]}),
        # The names of fields, as values.
        ({"message": '"result"', "stage_name": "result"}, {"message": '"result"', "stage_name": "result"}),
    ],
)
def test_summary_removes_large_fields_and_cuts_the_prompt(data: Any, expected: Any) -> None:
    summarized = summarize(record("workflow.completed", data))
    assert summarized == record("workflow.completed", expected)


@pytest.mark.parametrize("name", LEFT_OUT)
def test_summary_leaves_out_frequent_events(name: str) -> None:
    assert name in EVENT_TYPES
    event = record(name, {"message": "x"})
    assert (summarize(event), summarize_message(encode_event(event, room="global"))) == (None, None)


def test_message_of_summary_is_that_of_global_with_reduced_data() -> None:
    event = record("workflow.created", {"prompt": "p" * 300, "name": "n\n\u2028", "params": {"a": 1}})
    message = encode_event(event, room="global")
    assert decode_event(message) == event
    reduced = summarize_message(message)
    assert reduced is not None
    expected = {"prompt": "p" * 199 + "…", "name": "n\n\u2028"}
    assert json.loads(reduced) == {**json.loads(message), "room": "summary", "data": expected}
