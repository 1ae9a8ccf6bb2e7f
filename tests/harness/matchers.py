"""Whole messages to compare with, and matchers for the parts that differ every time."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID


class _Matcher:
    """Equal to every value for which `matches` is true."""

    def __init__(self, name: str, matches: Callable[[Any], object]) -> None:
        self._name = name
        self._matches = matches

    def __eq__(self, value: object) -> bool:
        return bool(self._matches(value))

    def __hash__(self) -> int:
        return hash(self._name)

    def __repr__(self) -> str:
        return self._name


def _is_uuid(value: Any) -> bool:
    return isinstance(value, str) and str(UUID(value)) == value


def _is_utc_time(value: Any) -> object:
    return isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", value)


def _is_whole_number(value: Any) -> bool:
    return type(value) is int and value >= 0


A_UUID = _Matcher("a UUID", _is_uuid)
A_TIME = _Matcher("a time in UTC", _is_utc_time)
A_NUMBER = _Matcher("a whole number", _is_whole_number)
A_POSITION_OR_NONE = _Matcher("a position, or {}", lambda value: value.keys() in ({"seq", "epoch"}, set()))
AN_EPOCH = _Matcher("an epoch", lambda value: isinstance(value, str) and re.fullmatch("[0-9a-f]{32}", value))


def between(least: int, most: int) -> Any:
    """Return a matcher of whole numbers from `least` to `most`."""
    return _Matcher(f"{least} to {most}", lambda value: type(value) is int and least <= value <= most)


def a_response(event: str, data: Any, correlation_id: str | None = None) -> dict[str, Any]:
    """Return the whole response to a request."""
    return _with_correlation_id(
        {"id": A_UUID, "type": "response", "event": event, "data": data, "timestamp": A_TIME}, correlation_id
    )


def a_pong(correlation_id: str | None = None, *, data: Any = None) -> dict[str, Any]:
    """Return the whole answer to a ping, without a position unless it is given."""
    return _with_correlation_id(
        {"id": A_UUID, "type": "pong", "event": "pong", "data": data or {}, "timestamp": A_TIME}, correlation_id
    )


def an_error(
    code: str,
    message: str,
    *,
    event: str = "error",
    correlation_id: str | None = None,
    retryable: bool = False,
    retry_after_ms: Any = None,
) -> dict[str, Any]:
    """Return a whole error message."""
    error = {
        "id": A_UUID,
        "type": "error",
        "event": event,
        "data": {},
        "timestamp": A_TIME,
        "error_code": code,
        "error_message": message,
        "retryable": retryable,
    }
    if retry_after_ms is not None:
        error["retry_after_ms"] = retry_after_ms
    return _with_correlation_id(error, correlation_id)


def an_event(name: str, data: Any, *, room: str, timestamp: Any = A_TIME, **further: Any) -> dict[str, Any]:
    """Return a whole event of the log."""
    return {
        "id": A_UUID,
        "type": "event",
        "event": name,
        "data": data,
        "timestamp": timestamp,
        "room": room,
        "seq": A_NUMBER,
        **further,
    }


def _with_correlation_id(message: dict[str, Any], correlation_id: str | None) -> dict[str, Any]:
    return message if correlation_id is None else {**message, "correlation_id": correlation_id}
