"""Messages from the server to the client, and their encoders. Each encoder returns the bytes of one JSON text."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from realtime.protocol.errors import RequestError
from realtime.protocol.payload import raw_json


def new_id() -> str:
    """Return a random UUID for a message or a connection."""
    return str(uuid.uuid4())


def _utc_now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class Subscribed(msgspec.Struct, frozen=True, kw_only=True):
    """The response to `subscribe`. A plain subscription has `channel` and `status` only.

    Attributes:
        channel: The channel, as the client named it.
        status: Always `subscribed`.
        seq: Position of the event log. Live events lie above it. Set with `since` or `snapshot`.
        epoch: The log that `seq` belongs to. Set with `since` or `snapshot`.
        recovered: Whether the missed events follow: `missed` events with `replay: true`. Set with `since`.
        missed: Number of events replayed next; 0 if not recovered. Set with `since`.
        reason: Why it was not recovered: `epoch`, `trimmed`, `ahead` or `limit`.
        snapshot: State of the resource at `seq`, null if it does not exist. Set with `snapshot`.
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
    """The response to `unsubscribe`."""

    channel: str
    status: str = "unsubscribed"


class PoolStatusData(msgspec.Struct, frozen=True, kw_only=True):
    """The response to `get_pool_status`. `workers` are the ids of all workers of the pool."""

    pool_id: str
    status: str
    workers: list[str]


class WorkflowStatusData(msgspec.Struct, frozen=True, kw_only=True):
    """The response to `get_workflow_status`."""

    workflow_id: str
    status: str
    stages_completed: int
    total_stages: int


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
    """One event of the log. It is the same in every room that delivers it.

    Attributes:
        seq: Position in the log, equal to commit order.
        id: UUID of the event.
        name: Name of the event, such as `workflow.started`.
        timestamp: When the change happened.
        data: JSON text made by `encode_data`.
    """

    seq: int
    id: str
    name: str
    timestamp: datetime
    data: str


_encode = msgspec.json.Encoder().encode


def encode_event(event: EventRecord, *, room: str, replay: bool = False) -> bytes:
    """Encode the message that delivers `event` through `room`."""
    return _encode(
        _Event(
            id=event.id,
            type="event",
            event=event.name,
            data=raw_json(event.data),
            timestamp=event.timestamp,
            room=room,
            seq=event.seq,
            replay=replay or UNSET,
        )
    )


class _EventWithRawData(_Event, frozen=True, kw_only=True):
    data: msgspec.Raw


_decode_event = msgspec.json.Decoder(_EventWithRawData).decode


def decode_event(message: bytes) -> EventRecord:
    """Return the event that a message of `encode_event` delivers."""
    event = _decode_event(message)
    return EventRecord(event.seq, event.id, event.event, event.timestamp, bytes(event.data).decode())


def encode_notice(event: str, data: object) -> bytes:
    """Encode an event about this connection only. It is not in the event log and has no `seq`."""
    return _encode(_Message(id=new_id(), type="event", event=event, data=data, timestamp=_utc_now()))


def encode_response(event: str, data: object, correlation_id: str | None) -> bytes:
    """Encode the response to a request."""
    return _encode(
        _Message(
            id=new_id(),
            type="response",
            event=event,
            data=data,
            timestamp=_utc_now(),
            correlation_id=_optional(correlation_id),
        )
    )


def encode_pong(correlation_id: str | None, *, position: msgspec.Struct | None = None) -> bytes:
    """Encode the answer to a ping, with the position if it is known."""
    return _encode(
        _Message(
            id=new_id(),
            type="pong",
            event="pong",
            data={} if position is None else position,
            timestamp=_utc_now(),
            correlation_id=_optional(correlation_id),
        )
    )


def encode_error(error: RequestError) -> bytes:
    """Encode an error message. Its `event` is `error` if the request is unknown."""
    return _encode(
        _Error(
            id=new_id(),
            type="error",
            event=error.event or "error",
            data={},
            timestamp=_utc_now(),
            correlation_id=_optional(error.correlation_id),
            error_code=error.code,
            error_message=error.message,
            retryable=error.code.retryable,
            retry_after_ms=UNSET if error.retry_after_ms is None else error.retry_after_ms,
        )
    )


def _optional(value: str | None) -> str | UnsetType:
    return UNSET if value is None else value
