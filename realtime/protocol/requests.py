"""From the client: a text frame becomes a typed request, or a `RequestError` that says what was wrong with it."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, NoReturn

import msgspec

from realtime.protocol.errors import ErrorCode, RequestError

MAX_SEQ = 2**63 - 1
"""The largest position a log can have: a signed 64-bit integer in both databases."""


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
    """Msgspec's sentence, with its path (`$.since`) written as the message's own field (`data.since`)."""
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
