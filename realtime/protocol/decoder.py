"""Decode the messages of clients: requests and pings."""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec

from realtime.protocol.errors import ErrorCode, RequestError
from realtime.protocol.requests import REQUESTS, Request, Subscribe, Unsubscribe


class Incoming(msgspec.Struct, frozen=True, kw_only=True):
    """A decoded message from a client.

    Attributes:
        request: The request; None for a ping.
        event: Name of the request, or `ping`.
        correlation_id: The `id` of the message, or its `correlation_id` if it has no `id`; None if it has neither.
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


class _RoomAlias(msgspec.Struct):
    """The data of the alias: `mcp_common.websocket.WebSocketClient` sends the event `subscribe` with a `room`."""

    room: str


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_alias = msgspec.json.Decoder(_RoomAlias).decode
_decode_requests = {name: msgspec.json.Decoder(request).decode for name, request in REQUESTS.items()}
_ALIASES: dict[str, type[Subscribe | Unsubscribe]] = {"subscribe": Subscribe, "unsubscribe": Unsubscribe}
_UNDECODABLE = (msgspec.DecodeError, UnicodeError, RecursionError)


def decode(text: str) -> Incoming:
    """Decode one text frame.

    Raises:
        RequestError: with `UNKNOWN_REQUEST` if no request has that name, and with `INVALID_MESSAGE` if the message
            is malformed in any other way. The error has the `correlation_id` of the message if it can be read.
    """
    try:
        envelope = _decode_envelope(text)
    except _UNDECODABLE as error:
        _raise_invalid_envelope(text, error)
    correlation_id = envelope.id if envelope.id is not None else envelope.correlation_id
    event = envelope.event
    if envelope.type == "ping":
        return Incoming(request=None, event="ping", correlation_id=correlation_id)
    if envelope.type == "request":
        if event is None:
            raise _invalid("Missing field `event`: expected a string", None, correlation_id)
        if (decode_data := _decode_requests.get(event)) is None:
            raise RequestError(
                ErrorCode.UNKNOWN_REQUEST,
                f"Unknown request {_quoted(event)}: expected one of {', '.join(REQUESTS)}",
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
    raise _invalid(
        f"Unknown message type {_quoted(envelope.type)}: expected 'request' or 'ping'", event, correlation_id
    )


def _decoded_data(decode_data: Any, data: msgspec.Raw, event: str, correlation_id: str | None) -> Any:
    if not bytes(data):
        raise _invalid("Missing field `data`: expected an object", event, correlation_id)
    try:
        return decode_data(data)
    except _UNDECODABLE as error:
        raise _invalid(_reason_with_field(error, "data"), event, correlation_id) from None


def _raise_invalid_envelope(text: str, error: Exception) -> NoReturn:
    """Raise the `RequestError` for a message whose envelope cannot be decoded, with its `id` if that can be read."""
    try:
        fields = msgspec.json.decode(text)
    except _UNDECODABLE as malformed:
        raise _invalid(f"The message is not valid JSON: {_reason(malformed)}", None, None) from None
    if not isinstance(fields, dict):
        raise _invalid(f"Expected a JSON object, got {_json_type(fields)}", None, None) from None
    event, *ids = (fields.get(key) for key in ("event", "id", "correlation_id"))
    correlation_id = next((value for value in ids if isinstance(value, str)), None)
    raise _invalid(_reason_with_field(error, ""), event if isinstance(event, str) else None, correlation_id) from None


def _invalid(message: str, event: str | None, correlation_id: str | None) -> RequestError:
    return RequestError(ErrorCode.INVALID_MESSAGE, message, event=event, correlation_id=correlation_id)


def _reason_with_field(error: Exception, parent: str) -> str:
    """Return msgspec's reason, with its path (`$.since`) replaced by the field of the message (`data.since`)."""
    reason, separator, path = _reason(error).partition(" - at `$")
    field = f"{parent}{path.rstrip('`')}".lstrip(".") if separator else parent
    return f"{reason} in `{field}`" if field else reason


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return str(error).removeprefix("JSON is malformed: ")


def _quoted(text: str) -> str:
    return repr(text if len(text) <= 100 else text[:100] + "…")


def _json_type(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "an array"}
    return names.get(type(value), "null")
