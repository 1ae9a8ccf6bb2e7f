"""WebSocket frames from the server, which are not masked: the same bytes serve every connection."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

_FINAL_TEXT = 0x81
_MAX_7_BIT_LENGTH = 125
_LENGTH_FOLLOWS_IN_16_BITS = 126
_LENGTH_FOLLOWS_IN_64_BITS = 127


def text_frame(message: bytes) -> bytes:
    """One final, unmasked, uncompressed text frame (RFC 6455 section 5.2)."""
    length = len(message)
    if length <= _MAX_7_BIT_LENGTH:
        return bytes((_FINAL_TEXT, length)) + message
    if length < 1 << 16:
        return bytes((_FINAL_TEXT, _LENGTH_FOLLOWS_IN_16_BITS)) + length.to_bytes(2) + message
    return bytes((_FINAL_TEXT, _LENGTH_FOLLOWS_IN_64_BITS)) + length.to_bytes(8) + message


_PART_BYTES = 64 * 1024
"""What is written at once. What a reader does not take of it is copied for that reader; later parts are shared."""


class Frames:
    """Messages that leave together, in order, for one connection or a thousand.

    Attributes:
        messages: Each the bytes of one message.
        size_bytes: What they take altogether.
    """

    def __init__(self, messages: Sequence[bytes]) -> None:
        self.messages = messages
        self.size_bytes = sum(map(len, messages))

    @cached_property
    def data(self) -> bytes:
        """The bytes that carry them on a plain WebSocket, built once."""
        return b"".join(map(text_frame, self.messages))

    @cached_property
    def texts(self) -> list[str]:
        """The messages as an ASGI server wants them, decoded once."""
        return [message.decode() for message in self.messages]


def build_frames(messages: Sequence[bytes]) -> list[Frames]:
    """The same messages, in order, in parts of at most 64 KiB; a larger message is a part of its own."""
    parts: list[list[bytes]] = [[]]
    size_bytes = 0
    for message in messages:
        if parts[-1] and size_bytes + len(message) > _PART_BYTES:
            parts.append([])
            size_bytes = 0
        parts[-1].append(message)
        size_bytes += len(message)
    return [Frames(part) for part in parts]
