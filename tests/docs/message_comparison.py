"""Compare a documented message with a received one, key for key. Ids, positions and response times may differ."""

from __future__ import annotations

import re
from typing import Any

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_UTC_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")

SHOWN_DEFINITION = "demo_retry"


def comparable(message: dict[str, Any], *, exact_seq: bool) -> dict[str, Any]:
    """Return a copy of the message with each value that may differ replaced by a word for its kind.

    A value of an unexpected kind stays, so the comparison fails.

    Args:
        message: A documented or received message.
        exact_seq: Whether the message's own `seq` must be equal. A `seq` in `data` may always differ.
    """
    data = dict(message["data"])
    result = {**message, "data": data}
    _replace(result, "id", _UUID, "a UUID")
    _replace(data, "connection_id", _UUID, "a UUID")
    if "room" not in message:
        _replace(result, "timestamp", _UTC_TIME, "a time")
    if isinstance(data.get("events"), list):
        data["events"] = [dict(event) for event in data["events"]]
        for event in data["events"]:
            _replace(event, "id", _UUID, "a UUID")
    for fields in (data,) if exact_seq else (data, result):
        if type(fields.get("seq")) is int:
            fields["seq"] = "a position"
    if "definitions" in data:
        # The documents show one of them.
        data["definitions"] = [each for each in data["definitions"] if each["name"] == SHOWN_DEFINITION]
    if "samples" in data:
        data["samples"] = [dict(each) for each in data["samples"]]
        for sample in data["samples"]:
            _replace(sample, "at", _UTC_TIME, "a time")
    for key in ("connections", "relay_lag_ms", "wait_id"):
        if type(data.get(key)) in (int, float):
            data[key] = "a number"
    return result


def _replace(fields: dict[str, Any], key: str, pattern: re.Pattern[str], kind: str) -> None:
    value = fields.get(key)
    if isinstance(value, str) and pattern.fullmatch(value):
        fields[key] = kind
