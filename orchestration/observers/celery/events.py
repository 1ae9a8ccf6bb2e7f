"""Read the events of Celery's workers, and what workers reply, from bytes that anyone may have sent.

Nothing here raises for a strange payload: it is no event, or one without the field that has the wrong type.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""Size of one message. Workers send up to 24 task events in one, each with arguments of at most 1 KiB by default."""

MAX_EVENTS_PER_MESSAGE: Final = 1000
"""Events of one message that are read; the others are dropped."""

MAX_KEY_CHARACTERS: Final = 1024
"""Length of an id, or of the name of a worker or queue. An event with a longer one is dropped."""

MAX_TEXT_CHARACTERS: Final = 1000
"""Length of arguments, results and exceptions; the rest is cut."""


class Kind(Enum):
    """What happened to a task or a worker."""

    SENT = "task-sent"
    RECEIVED = "task-received"
    STARTED = "task-started"
    SUCCEEDED = "task-succeeded"
    FAILED = "task-failed"
    RETRIED = "task-retried"
    REVOKED = "task-revoked"
    REJECTED = "task-rejected"
    CANCELLED = "task-cancelled"
    ONLINE = "worker-online"
    HEARTBEAT = "worker-heartbeat"
    OFFLINE = "worker-offline"


_KINDS: Final = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """An event of one task. A field that the event lacks is None.

    Attributes:
        timestamp: When, by the clock of the sender, in seconds.
        hostname: The worker, or for `task-sent` the client.
        queue: The queue, if the sender names it.
        args, kwargs, result, exception: As Celery prints them, cut.
        runtime: Seconds that the task ran.
        terminated, expired, requeue: What `task-revoked` and `task-rejected` say.
    """

    kind: Kind
    uuid: str
    hostname: str
    timestamp: float | None = None
    name: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    queue: str | None = None
    retries: int | None = None
    args: str | None = None
    kwargs: str | None = None
    result: str | None = None
    exception: str | None = None
    runtime: float | None = None
    terminated: bool = False
    expired: bool = False
    requeue: bool = False


@dataclass(frozen=True, slots=True)
class WorkerEvent:
    """An event of one worker.

    Attributes:
        freq: Seconds between its heartbeats.
        pid: Its process.
    """

    kind: Kind
    hostname: str
    timestamp: float | None = None
    freq: float | None = None
    pid: int | None = None


Event = TaskEvent | WorkerEvent


@dataclass(frozen=True, slots=True)
class WorkerReply:
    """What a worker answers to `active_queues` and `active`.

    Attributes:
        queues: The queues that it serves, in its order; None if the answer is not about them.
        active: The tasks that it runs, each as if it had started now; None if the answer is not about them.
    """

    hostname: str
    queues: tuple[str, ...] | None = None
    active: tuple[TaskEvent, ...] | None = None


def decode(body: object) -> object:
    """Return the JSON value in the body of a message, or None if there is none. Nothing but JSON is decoded."""
    if isinstance(body, str):
        body = body.encode("utf-8", "surrogatepass")
    if not isinstance(body, bytes | bytearray | memoryview) or len(body) > MAX_BODY_BYTES:
        return None
    try:
        # Celery is not used for this: it also decodes its own notation of other types.
        return json.loads(bytes(body))
    except (ValueError, RecursionError):
        return None


def read_events(value: object) -> Iterator[Event | None]:
    """Read the events of a decoded message. What is no event is None."""
    items = value[:MAX_EVENTS_PER_MESSAGE] if isinstance(value, list) else [value]
    for item in items:
        yield read_event(item)


def read_event(value: object) -> Event | None:
    """Read one event."""
    if not isinstance(value, dict) or not isinstance(type_ := value.get("type"), str):
        return None
    kind, hostname = _KINDS.get(type_), _key(value, "hostname")
    if kind is None or hostname is None:
        return None
    if kind in (Kind.ONLINE, Kind.HEARTBEAT, Kind.OFFLINE):
        return WorkerEvent(
            kind, hostname, timestamp=_number(value, "timestamp"), freq=_number(value, "freq"), pid=_whole(value, "pid")
        )
    uuid = _key(value, "uuid")
    if uuid is None:
        return None
    return TaskEvent(
        kind,
        uuid,
        hostname,
        timestamp=_number(value, "timestamp"),
        name=_text(value, "name"),
        root_id=_key(value, "root_id"),
        parent_id=_key(value, "parent_id"),
        queue=_key(value, "queue"),
        retries=_whole(value, "retries"),
        args=_text(value, "args"),
        kwargs=_text(value, "kwargs"),
        result=_text(value, "result"),
        exception=_text(value, "exception"),
        runtime=_number(value, "runtime"),
        terminated=value.get("terminated") is True,
        expired=value.get("expired") is True,
        requeue=value.get("requeue") is True,
    )


def read_reply(value: object, *, command: str) -> WorkerReply | None:
    """Read what one worker answers to `active_queues` or `active`: an object of its name and a list."""
    if not isinstance(value, dict) or len(value) != 1:
        return None
    ((hostname, rows),) = value.items()
    if not 0 < len(hostname) <= MAX_KEY_CHARACTERS or not isinstance(rows, list):
        return None
    rows = rows[:MAX_EVENTS_PER_MESSAGE]
    if command == "active_queues":
        names = (_key(row, "name") if isinstance(row, dict) else None for row in rows)
        return WorkerReply(hostname, queues=tuple(name for name in names if name is not None))
    return WorkerReply(
        hostname, active=tuple(task for row in rows if (task := _read_active(row, hostname)) is not None)
    )


def _read_active(row: object, hostname: str) -> TaskEvent | None:
    if not isinstance(row, dict) or (uuid := _key(row, "id")) is None:
        return None
    delivery = row.get("delivery_info")
    return TaskEvent(
        Kind.STARTED,
        uuid,
        hostname,
        timestamp=_number(row, "time_start"),
        name=_text(row, "name"),
        queue=_key(delivery, "routing_key") if isinstance(delivery, dict) else None,
    )


def _key(value: Mapping[str, Any], field: str) -> str | None:
    """Return a text that identifies something. Cutting it would make two things one."""
    found = value.get(field)
    return found if isinstance(found, str) and 0 < len(found) <= MAX_KEY_CHARACTERS else None


def _text(value: Mapping[str, Any], field: str) -> str | None:
    found = value.get(field)
    if isinstance(found, str):
        return found[:MAX_TEXT_CHARACTERS]
    # Arguments are text in events of every current release, and were values before.
    return None if found is None or isinstance(found, dict | list) else str(found)[:MAX_TEXT_CHARACTERS]


def _number(value: Mapping[str, Any], field: str) -> float | None:
    found = value.get(field)
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    try:
        number = float(found)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _whole(value: Mapping[str, Any], field: str) -> int | None:
    found = value.get(field)
    is_whole = isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 2**31
    return found if is_whole else None
