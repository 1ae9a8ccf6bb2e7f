"""Read the body of a request that reports events, with bounds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from orchestration.reporter import is_plausible_time
from realtime.api.json_body import decode_body
from realtime.api.problems import Problem
from realtime.protocol.problems import ProblemCode

MAX_EVENTS: Final = 1000
"""Events in one request."""

_MAX_NAME_CHARACTERS: Final = 64
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")


@dataclass(frozen=True, slots=True)
class ReportedEvent:
    """One event of a request.

    Attributes:
        name: Its name.
        data: Its data, without `timestamp`.
        room: The channel it names, for an event without state.
        at: When it happened; the time of the server if `reported_at` says otherwise.
        reported_at: Its own timestamp if that is too far from the server's clock, else None.
    """

    name: str
    data: Mapping[str, Any]
    room: str | None
    at: datetime
    reported_at: str | None


class InvalidEvent(Exception):
    """An event is not as it must be.

    Attributes:
        path: Which part of the event is wrong.
        expected: What is expected there.
    """

    def __init__(self, path: str, expected: str) -> None:
        super().__init__(f"{path}: {expected}")
        self.path = path
        self.expected = expected


def decode_items(body: bytes) -> list[Any]:
    """Return the events of a body: one event, an array of them, or an object with the array `events`.

    Raises:
        Problem
    """
    items = decoded = decode_body(body)
    if isinstance(decoded, dict):
        items = decoded["events"] if "events" in decoded and "event" not in decoded else [decoded]
    if not isinstance(items, list) or not items:
        raise _invalid("body", "expected an event, an array of events, or an object with the array `events`")
    if len(items) > MAX_EVENTS:
        raise _invalid("body", f"expected at most {MAX_EVENTS} events, got {len(items)}")
    return items


def read_event(item: Any, *, now: datetime) -> ReportedEvent:
    """Read one event in the shape in which the server sends it. Its `id`, `type`, `seq` and the like are ignored.

    Raises:
        InvalidEvent
    """
    if not isinstance(item, dict):
        raise InvalidEvent("", "expected an object with `event` and `data`")
    name = item.get("event")
    if not isinstance(name, str) or len(name) > _MAX_NAME_CHARACTERS or _NAME.fullmatch(name) is None:
        raise InvalidEvent(
            "event", f"expected words of letters, digits, '_' and '-' with dots, {_MAX_NAME_CHARACTERS} characters"
        )
    data = item.get("data", {})
    if not isinstance(data, dict):
        raise InvalidEvent("data", "expected an object")
    room = item.get("room")
    if room is not None and not isinstance(room, str):
        raise InvalidEvent("room", "expected a channel")
    path = "data.timestamp" if data.get("timestamp") is not None else "timestamp"
    stamp = data.get("timestamp") if path == "data.timestamp" else item.get("timestamp")
    at = now if stamp is None else _time(path, stamp)
    reported_at = None
    if not is_plausible_time(at, now=now):
        at, reported_at = now, stamp
    return ReportedEvent(name, {key: data[key] for key in data if key != "timestamp"}, room, at, reported_at)


def _time(path: str, stamp: Any) -> datetime:
    try:
        at = datetime.fromisoformat(stamp)
        at.astimezone()  # A year beyond the calendar.
    except (TypeError, ValueError, OverflowError):
        at = None
    if at is None or at.tzinfo is None:
        raise InvalidEvent(path, "expected a time with a time zone as in ISO 8601, such as 2026-02-10T20:00:00Z")
    return at


def _invalid(path: str, expected: str) -> Problem:
    return Problem(ProblemCode.INVALID_PARAMETERS, f"{path}: {expected}", errors=[{"path": path, "detail": expected}])
