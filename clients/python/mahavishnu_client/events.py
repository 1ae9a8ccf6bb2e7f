"""Events as the caller receives them, and the messages of the server that are no events of a channel."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Union

import msgspec

from mahavishnu_client.errors import ProtocolError
from mahavishnu_client.messages import EVENT_TYPES, EventData


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="event", rename={"replayed": "replay"}):
    """An event of a channel.

    Attributes:
        seq: Its position in the event log.
        data: Its data: a struct of `mahavishnu_client.messages`, or an object as received if the event is unknown.
        timestamp: When the change happened.
        room: The channel that delivered it.
        id: A UUID, the same in each channel.
        replayed: Whether it is older than the subscription.
    """

    seq: int
    data: Any
    timestamp: datetime
    room: str
    id: str
    replayed: bool = False

    @property
    def name(self) -> str:
        """The name of the event, such as `workflow.started`."""
        raise NotImplementedError  # A class attribute of each known event, and a field of an unknown one.


class UnknownEvent(
    Event, frozen=True, kw_only=True, gc=False, tag=False, rename={"replayed": "replay", "name": "event"}
):
    """An event that this version of the client does not know, or with data of another shape.

    Attributes:
        data: The data as received.
    """

    name: str
    data: dict[str, Any]


class HistoryLost(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A gap: events of the channel that can no longer be delivered. What follows is complete again.

    Attributes:
        channel: The channel.
        reason: `epoch`, `ahead`, `trimmed` or `limit`, as in the protocol.
        seq: The position from which on events follow.
        epoch: The log of `seq`.
    """

    channel: str
    reason: str
    seq: int
    epoch: str


class Position(msgspec.Struct, frozen=True, gc=False):
    """A position of an event log, to be stored. `str(position)` and `Position.parse` convert it to text and back.

    Attributes:
        seq: Every event up to here was handled.
        epoch: The log.
    """

    seq: int
    epoch: str

    def __str__(self) -> str:
        return f"{self.seq}@{self.epoch}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Return the position of a text.

        Raises:
            ValueError: if it is not one.
        """
        seq, separator, epoch = text.partition("@")
        if not (seq.isascii() and seq.isdigit() and separator and epoch):
            raise ValueError(f"Invalid position {text!r}: expected a number, '@' and an epoch")
        return cls(int(seq), epoch)


class Message(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Any message of the server, with its data not decoded yet."""

    type: str
    event: str
    data: msgspec.Raw
    id: str = ""
    timestamp: datetime | None = None
    room: str | None = None
    seq: int | None = None
    replay: bool = False
    correlation_id: str | None = None
    error_code: str = ""
    error_message: str = ""
    retryable: bool = False
    retry_after_ms: int | None = None


def _event_class(name: str, data: type[EventData]) -> type[Event]:
    return msgspec.defstruct(  # type: ignore[return-value]
        f"{data.__name__}Event",
        [("data", data)],
        bases=(Event,),
        namespace={"name": name},
        module=__name__,
        tag=name,
        frozen=True,
        kw_only=True,
        gc=False,
    )


EVENT_CLASSES = {name: _event_class(name, data) for name, data in EVENT_TYPES.items()}
"""The class of each known event. One call decodes a message into it, with its data."""

UNDECODABLE = (msgspec.DecodeError, UnicodeError, RecursionError)

_decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Union[tuple(EVENT_CLASSES.values())])  # noqa: UP007
decode_event = _decoder.decode
"""Decode a message that delivers a known event, in one call. For any other message it raises one of `UNDECODABLE`."""

_decode_message = msgspec.json.Decoder(Message).decode
_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def decode_other(data: bytes) -> UnknownEvent | Message:
    """Decode any other message.

    Raises:
        ProtocolError: if it is not a message of the server.
    """
    try:
        message = _decode_message(data)
        if message.type != "event" or message.seq is None or message.room is None or message.timestamp is None:
            return message
        return UnknownEvent(
            seq=message.seq,
            name=message.event,
            data=_decode_object(message.data),
            timestamp=message.timestamp,
            room=message.room,
            id=message.id,
            replayed=message.replay,
        )
    except UNDECODABLE as error:
        raise ProtocolError(f"The server sent an invalid message: {error}") from None


def decode(data: bytes) -> Event | Message:
    """Decode any message of the server.

    Raises:
        ProtocolError: if it is none.
    """
    try:
        return decode_event(data)
    except UNDECODABLE:
        return decode_other(data)
