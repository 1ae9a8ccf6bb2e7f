"""To the client: a typed message becomes the bytes of a text frame."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from realtime.protocol.errors import RequestError
from realtime.protocol.payload import encoded


def new_id() -> str:
    """A new message id."""
    return str(uuid.uuid4())


def utc_now() -> datetime:
    """The time a message is made, which is no decision."""
    return datetime.now(UTC)


class Subscribed(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `subscribe`. All after `channel` is there only when `since` or `snapshot` was asked for.

    Attributes:
        seq: The log's position; live events are those above it.
        epoch: The log this position belongs to.
        recovered: Whether exactly `missed` events with `replay: true` come next.
        reason: Why not: `epoch`, `trimmed`, `ahead` or `limit`.
        snapshot: The channel's state at `seq`, null where the resource does not exist.
    """

    channel: str
    status: str = "subscribed"
    seq: int | UnsetType = UNSET
    epoch: str | UnsetType = UNSET
    recovered: bool | UnsetType = UNSET
    missed: int | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    snapshot: Any = UNSET


class Unsubscribed(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `unsubscribe`."""

    channel: str
    status: str = "unsubscribed"


class PoolStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `get_pool_status`."""

    pool_id: str
    status: str
    workers: list[str]


class WorkflowStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `get_workflow_status`."""

    workflow_id: str
    status: str
    stages_completed: int
    total_stages: int


class SessionCreated(msgspec.Struct, frozen=True, kw_only=True):
    """The data of the welcome.

    Attributes:
        epoch: The log this server announces from.
        seq: A position of that log which was reached before this connection opened.
    """

    connection_id: str
    epoch: str
    seq: int
    server: str = "mahavishnu"
    message: str = "Connected to Mahavishnu orchestration"


class SessionDraining(msgspec.Struct, frozen=True, kw_only=True):
    """The data of the last message before a server that was told to stop closes a connection.

    Attributes:
        retry_after_ms: How long to wait before connecting again: each client is told another time.
    """

    retry_after_ms: int
    message: str = "This server is about to stop: connect again and subscribe with `since`"


class _Message(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    type: str
    event: str
    data: Any
    timestamp: datetime
    correlation_id: str | UnsetType = UNSET


class _Error(_Message, frozen=True, kw_only=True):
    error_code: str
    error_message: str
    retryable: bool
    retry_after_ms: int | UnsetType = UNSET


class _Event(_Message, frozen=True, kw_only=True):
    room: str
    seq: int
    replay: bool | UnsetType = UNSET


class EventRecord(msgspec.Struct, frozen=True):
    """One event of the log, whatever room it is delivered through.

    Attributes:
        seq: Its position, equal to commit order.
        id: Its id, the same in every room.
        name: `workflow.started`, …
        timestamp: When it happened.
        data: Its data, already encoded by `encode_data`.
    """

    seq: int
    id: str
    name: str
    timestamp: datetime
    data: str


_encode = msgspec.json.Encoder().encode


def encode_event(event: EventRecord, *, room: str, replay: bool = False) -> bytes:
    """The message that delivers `event` through `room`."""
    return _encode(
        _Event(
            id=event.id,
            type="event",
            event=event.name,
            data=encoded(event.data),
            timestamp=event.timestamp,
            room=room,
            seq=event.seq,
            replay=replay or UNSET,
        )
    )


def encode_session_created(connection_id: str, *, epoch: str, seq: int) -> bytes:
    """The welcome."""
    return encode_notice("session.created", SessionCreated(connection_id=connection_id, epoch=epoch, seq=seq))


def encode_session_draining(*, retry_after_ms: int) -> bytes:
    """The close_frame of a server that was told to stop."""
    return encode_notice("session.draining", SessionDraining(retry_after_ms=retry_after_ms))


def encode_notice(event: str, data: object) -> bytes:
    """An event about this connection alone: it is in no log and has no `seq`."""
    return _encode(_Message(id=new_id(), type="event", event=event, data=data, timestamp=utc_now()))


def encode_response(event: str, data: object, correlation_id: str | None) -> bytes:
    """The answer to a request."""
    return _encode(
        _Message(
            id=new_id(),
            type="response",
            event=event,
            data=data,
            timestamp=utc_now(),
            correlation_id=_optional(correlation_id),
        )
    )


def encode_pong(correlation_id: str | None) -> bytes:
    """The answer to a ping."""
    return _encode(
        _Message(
            id=new_id(),
            type="pong",
            event="pong",
            data={},
            timestamp=utc_now(),
            correlation_id=_optional(correlation_id),
        )
    )


def encode_error(error: RequestError, *, retryable: bool = False, retry_after_ms: int | None = None) -> bytes:
    """An error message.

    Args:
        retryable: Whether the same may succeed later.
        retry_after_ms: How long to wait before that, where it is known.
    """
    return _encode(
        _Error(
            id=new_id(),
            type="error",
            event=error.event or "error",
            data={},
            timestamp=utc_now(),
            correlation_id=_optional(error.correlation_id),
            error_code=error.code,
            error_message=error.message,
            retryable=retryable,
            retry_after_ms=UNSET if retry_after_ms is None else retry_after_ms,
        )
    )


def _optional(value: str | None) -> str | UnsetType:
    return UNSET if value is None else value
