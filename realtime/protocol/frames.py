"""WebSocket frames from the server. They are not masked, so every connection can send the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

_FINAL_TEXT = 0x81
_MAX_7_BIT_LENGTH = 125
_LENGTH_FOLLOWS_IN_16_BITS = 126
_LENGTH_FOLLOWS_IN_64_BITS = 127


def text_frame(message: bytes) -> bytes:
    """Return one final, unmasked, uncompressed text frame (RFC 6455 section 5.2)."""
    length = len(message)
    if length <= _MAX_7_BIT_LENGTH:
        return bytes((_FINAL_TEXT, length)) + message
    if length < 1 << 16:
        return bytes((_FINAL_TEXT, _LENGTH_FOLLOWS_IN_16_BITS)) + length.to_bytes(2) + message
    return bytes((_FINAL_TEXT, _LENGTH_FOLLOWS_IN_64_BITS)) + length.to_bytes(8) + message


_PART_BYTES = 64 * 1024
"""Maximum size of one write. A slow connection copies the unsent rest of one write; later parts stay shared."""


class Frames:
    """Messages sent together, in order, to one or many connections. The frames are built once for all of them.

    Attributes:
        messages: The messages, each as the bytes of its JSON text.
        size_bytes: Total size of the messages, without frame headers.
    """

    def __init__(self, messages: Sequence[bytes]) -> None:
        self.messages = messages
        self.size_bytes = sum(map(len, messages))

    @cached_property
    def data(self) -> bytes:
        """The messages as text frames."""
        return b"".join(map(text_frame, self.messages))

    @cached_property
    def texts(self) -> list[str]:
        """The messages as strings, for an ASGI server that builds the frames."""
        return [message.decode() for message in self.messages]


def build_frames(messages: Sequence[bytes]) -> list[Frames]:
    """Split messages into parts of at most 64 KiB, in order. A larger message is a part by itself."""
    parts: list[list[bytes]] = [[]]
    size_bytes = 0
    for message in messages:
        if parts[-1] and size_bytes + len(message) > _PART_BYTES:
            parts.append([])
            size_bytes = 0
        parts[-1].append(message)
        size_bytes += len(message)
    return [Frames(part) for part in parts]
