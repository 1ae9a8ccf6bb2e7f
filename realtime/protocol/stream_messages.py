"""Streams of chunks on the wire: the names of their channels, the answer to a `subscribe`, and what follows it.

The messages are events without `seq`: they are not in the event log. Offsets count bytes: of a text, those of
its UTF-8.
"""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from realtime.protocol.channels import ID_PATTERN, MAX_ID_CHARACTERS, InvalidChannel
from realtime.protocol.messages import new_id

STREAM_PREFIX = "stream:"
MAX_STREAM_NAME_CHARACTERS = 64

# The same as `orchestration.stream_keys`, which cannot be imported here; a test compares the two.
STREAM_NAME_PATTERN = rf"[A-Za-z0-9._\-]{{1,{MAX_STREAM_NAME_CHARACTERS}}}"
STREAM_CHANNEL_PATTERN = rf"{STREAM_PREFIX}({ID_PATTERN})/(.{{1,{MAX_ID_CHARACTERS}}})/({STREAM_NAME_PATTERN})"

_CHANNEL = re.compile(STREAM_CHANNEL_PATTERN, re.DOTALL)
_encode = msgspec.json.Encoder().encode


class StreamChannel(NamedTuple):
    """What the channel of a stream names. The name of a stage may contain slashes, the other two may not."""

    workflow_id: str
    stage_name: str
    name: str


class InvalidStreamChannel(InvalidChannel):
    """A name that begins as that of a stream, and does not follow the grammar."""

    expected = "'stream:', the id of a workflow, '/', the name of a stage, '/' and the name of a stream"


def is_stream_channel(channel: str) -> bool:
    """Check whether a channel carries a stream of chunks, not events."""
    return channel.startswith(STREAM_PREFIX)


def parse_stream_channel(channel: str) -> StreamChannel:
    """Return what the channel of a stream names.

    Raises:
        InvalidChannel: if it does not follow the grammar.
    """
    match = _CHANNEL.fullmatch(channel)
    if match is None:
        raise InvalidStreamChannel(channel)
    return StreamChannel(*match.groups())


class StreamSubscribed(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to a `subscribe` to a stream.

    Attributes:
        channel: The channel, as the client named it.
        status: Always `subscribed`.
        attempt: The attempt at the stage whose chunks follow; 0 if it has not started.
        offset: Where they begin: as requested, or 0 if the client has chunks of another attempt.
    """

    channel: str
    status: str = "subscribed"
    attempt: int
    offset: int


class StreamChunk(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `stream.chunk`: joined chunks of a stream.

    Attributes:
        attempt: The attempt that wrote them.
        offset: Bytes of the stream before them.
        delta: Their text; absent in a stream of bytes.
        base64: The bytes as base64; absent in a stream of text.
    """

    attempt: int
    offset: int
    delta: str | UnsetType = UNSET
    base64: str | UnsetType = UNSET


class StreamGap(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `stream.gap`: the bytes from `offset` up to `end` cannot be delivered."""

    attempt: int
    offset: int
    end: int


class StreamReset(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `stream.reset`: another attempt began. What was received is void; its chunks follow, from 0 on."""

    attempt: int


class StreamClosed(msgspec.Struct, frozen=True, kw_only=True):
    """The data of `stream.closed`: nothing follows, and the subscription has ended.

    Attributes:
        attempt: The attempt that wrote the stream.
        status: The status of its stage. Only if that is `completed`, the stream is stored.
        length: Bytes that were written; if it is not stored, those that this subscription has passed.
        sha256: Of all bytes that were written, in hexadecimal; null if it is not stored.
    """

    attempt: int
    status: str
    length: int
    sha256: str | None


class _StreamMessage(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    type: str
    event: str
    data: Any
    timestamp: datetime
    room: str


class _Named(msgspec.Struct, frozen=True):
    event: str


_decode_name = msgspec.json.Decoder(_Named).decode

_NAMES = {
    StreamChunk: "stream.chunk",
    StreamGap: "stream.gap",
    StreamReset: "stream.reset",
    StreamClosed: "stream.closed",
}


def encode_stream_message(channel: str, data: StreamChunk | StreamGap | StreamReset | StreamClosed) -> bytes:
    """Encode one message of a stream."""
    name = _NAMES[type(data)]
    return _encode(
        _StreamMessage(id=new_id(), type="event", event=name, data=data, timestamp=datetime.now(UTC), room=channel)
    )


def name_of_message(message: bytes) -> str:
    """Return the name of a message that was encoded here, such as `stream.chunk`."""
    return _decode_name(message).event


def stream_chunk(attempt: int, offset: int, data: bytes, content_type: Literal["text", "bytes"]) -> StreamChunk:
    """Return the chunk of these bytes. Those of a text begin and end between two characters."""
    if content_type == "text":
        return StreamChunk(attempt=attempt, offset=offset, delta=data.decode(errors="replace"))
    return StreamChunk(attempt=attempt, offset=offset, base64=base64.b64encode(data).decode())
