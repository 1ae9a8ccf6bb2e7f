"""The wire: every message between a client and the server, its decoder and its encoder. No I/O and no Django.

A text frame from a client becomes a typed request, or a `RequestError` that says what was wrong with it. A typed
message becomes the bytes of a text frame. JSON exists nowhere else.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar, NoReturn

import msgspec
from msgspec import UNSET, UnsetType

MAX_SEQ = 2**63 - 1
"""The largest position a log can have: a signed 64-bit integer in both databases."""


class ErrorCode(StrEnum):
    """What an error message says in `error_code`. The first four are the API reference's."""

    UNKNOWN_REQUEST = "UNKNOWN_REQUEST"
    INVALID_CHANNEL = "INVALID_CHANNEL"
    NOT_FOUND = "NOT_FOUND"
    SERVER_ERROR = "SERVER_ERROR"
    INVALID_MESSAGE = "INVALID_MESSAGE"
    MESSAGE_TOO_BIG = "MESSAGE_TOO_BIG"
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
    TOO_MANY_CONNECTIONS = "TOO_MANY_CONNECTIONS"
    TOO_MANY_SUBSCRIPTIONS = "TOO_MANY_SUBSCRIPTIONS"
    SLOW_CONSUMER = "SLOW_CONSUMER"
    EVENTS_TRIMMED = "EVENTS_TRIMMED"


class CloseCode:
    """Registered WebSocket close codes (RFC 6455 section 7.4.1 and the IANA registry), as this server uses them."""

    POLICY = 1008
    TOO_BIG = 1009
    SERVER_ERROR = 1011
    RESTARTING = 1012
    TRY_LATER = 1013


class RequestError(Exception):
    """A request that cannot be answered as asked.

    Attributes:
        code: What the error message says in `error_code`.
        message: What was wrong, and what was expected, for a person.
        event: The request's event, where it is known.
        correlation_id: What the answer is filed under, where it is known.
    """

    def __init__(
        self, code: ErrorCode, message: str, *, event: str | None = None, correlation_id: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.event = event
        self.correlation_id = correlation_id


# --- From the client ---------------------------------------------------------------------------------------------


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of one request. `event` is the name it is asked by."""

    event: ClassVar[str]


class Subscribe(Request, frozen=True, kw_only=True):
    """Events of `channel`, from now on or from the position `since` of the log `epoch`."""

    event: ClassVar[str] = "subscribe"
    channel: str
    since: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)] | None = None
    epoch: str | None = None
    snapshot: bool = False


class Unsubscribe(Request, frozen=True, kw_only=True):
    """No more events of `channel`."""

    event: ClassVar[str] = "unsubscribe"
    channel: str


class GetPoolStatus(Request, frozen=True, kw_only=True):
    """The status and the workers of one pool."""

    event: ClassVar[str] = "get_pool_status"
    pool_id: str


class GetWorkflowStatus(Request, frozen=True, kw_only=True):
    """The status and the progress of one workflow."""

    event: ClassVar[str] = "get_workflow_status"
    workflow_id: str


REQUESTS: dict[str, type[Request]] = {
    request.event: request for request in (Subscribe, Unsubscribe, GetPoolStatus, GetWorkflowStatus)
}


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded message from a client.

    Attributes:
        request: What is asked; None is a ping.
        event: The name it was asked by.
        correlation_id: The request's `id`; if it had none, its `correlation_id`.
    """

    request: Request | None
    event: str
    correlation_id: str | None


class _Envelope(msgspec.Struct):
    type: str
    event: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"")
    id: str | None = None
    correlation_id: str | None = None


class _Alias(msgspec.Struct):
    """What `mcp_common.websocket.WebSocketClient` sends: an event named subscribe, with a room."""

    room: str


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_alias = msgspec.json.Decoder(_Alias).decode
_decode_requests = {name: msgspec.json.Decoder(request).decode for name, request in REQUESTS.items()}
_ALIASES: dict[str, type[Subscribe | Unsubscribe]] = {"subscribe": Subscribe, "unsubscribe": Unsubscribe}
_UNDECODABLE = (msgspec.DecodeError, UnicodeError, RecursionError)


def decode(text: str) -> Incoming:
    """Read one text frame.

    Raises:
        RequestError: `INVALID_MESSAGE` for anything that is not a well-formed message, `UNKNOWN_REQUEST` for a request
            that does not exist. Where the message names an `id`, the error is filed under it.
    """
    try:
        envelope = _decode_envelope(text)
    except _UNDECODABLE as error:
        _refuse_envelope(text, error)
    correlation_id = envelope.id if envelope.id is not None else envelope.correlation_id
    event = envelope.event
    if envelope.type == "ping":
        return Incoming(request=None, event="ping", correlation_id=correlation_id)
    if envelope.type == "request":
        if event is None:
            raise _invalid("A request needs a field `event`, of type string", None, correlation_id)
        if (decode_data := _decode_requests.get(event)) is None:
            raise RequestError(
                ErrorCode.UNKNOWN_REQUEST,
                f"Unknown request {_shown(event)}: expected one of {', '.join(REQUESTS)}",
                event=event,
                correlation_id=correlation_id,
            )
        request = _decoded_data(decode_data, envelope.data, event, correlation_id)
        return Incoming(request=request, event=event, correlation_id=correlation_id)
    if envelope.type == "event" and event in _ALIASES:
        room = _decoded_data(_decode_alias, envelope.data, event, correlation_id).room
        return Incoming(request=_ALIASES[event](channel=room), event=event, correlation_id=correlation_id)
    if envelope.type == "event":
        raise _invalid("Clients cannot publish events: expected type 'request' or 'ping'", event, correlation_id)
    raise _invalid(f"Unknown message type {_shown(envelope.type)}: expected 'request' or 'ping'", event, correlation_id)


def _decoded_data(decode_data: Any, data: msgspec.Raw, event: str, correlation_id: str | None) -> Any:
    if not bytes(data):
        raise _invalid("A request needs a field `data`, of type object", event, correlation_id)
    try:
        return decode_data(data)
    except _UNDECODABLE as error:
        raise _invalid(_at(error, "data"), event, correlation_id) from None


def _refuse_envelope(text: str, error: Exception) -> NoReturn:
    """Say what was wrong with a message, filed under its `id` if that much of it can be read."""
    try:
        fields = msgspec.json.decode(text)
    except _UNDECODABLE as malformed:
        raise _invalid(f"The message is not valid JSON: {_sentence(malformed)}", None, None) from None
    if not isinstance(fields, dict):
        raise _invalid(f"Expected a JSON object, got {_json_type(fields)}", None, None) from None
    event, *ids = (fields.get(key) for key in ("event", "id", "correlation_id"))
    correlation_id = next((value for value in ids if isinstance(value, str)), None)
    raise _invalid(_at(error, ""), event if isinstance(event, str) else None, correlation_id) from None


def _invalid(message: str, event: str | None, correlation_id: str | None) -> RequestError:
    return RequestError(ErrorCode.INVALID_MESSAGE, message, event=event, correlation_id=correlation_id)


def _at(error: Exception, parent: str) -> str:
    """msgspec's sentence, with its path (`$.since`) written as the message's own field (`data.since`)."""
    sentence, separator, path = _sentence(error).partition(" - at `$")
    field = f"{parent}{path.rstrip('`')}".lstrip(".") if separator else parent
    return f"{sentence} in `{field}`" if field else sentence


def _sentence(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "…")


def _json_type(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "null")


# --- To the client -----------------------------------------------------------------------------------------------


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


def encode_data(data: object) -> str:
    """The JSON text of an event's data, as the log keeps it."""
    return _encode(data).decode()


def encoded(text: str) -> msgspec.Raw:
    """JSON text that `encode_data` made, as it stands inside a message."""
    return msgspec.Raw(text.encode())


def decode_object(text: str) -> dict[str, Any]:
    """Read a JSON object that is no message: a line of input, an event's stored data.

    Raises:
        ValueError: if it is not JSON, or not an object.
    """
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except RecursionError:
        raise ValueError("nested too deeply") from None


def decode_value(text: str) -> Any:
    """Read any JSON value that is no message.

    Raises:
        ValueError: if it is not JSON.
    """
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def indented(text: str) -> str:
    """The same JSON, laid out for a person."""
    return msgspec.json.format(text, indent=2)


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
    """The goodbye of a server that was told to stop."""
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
