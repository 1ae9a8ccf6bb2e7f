"""Streams of chunks beside the event log: their names, and the keys in Redis that carry them while a stage runs.

Offsets count bytes; those of text count bytes of its UTF-8. Under `chunks` are the last chunks in order, each with its
offset; under `head` are the first bytes of the stream. The keys name the attempt and the moment of its start, so an
attempt that is no longer the stage's writes where no client reads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal
from zlib import crc32

StreamContentType = Literal["text", "bytes"]

KEY_PREFIX: Final = "mahavishnu.stream."
MAX_STREAM_NAME_LENGTH: Final = 64
STREAM_NAME_EXPECTED: Final = f"1 to {MAX_STREAM_NAME_LENGTH} of the characters A-Z a-z 0-9 . _ -"

MAX_CHUNK_BYTES: Final = 16 * 1024
"""Size of one chunk in Redis, and of one joined frame."""

OFFSET_FIELD: Final = b"o"
DATA_FIELD: Final = b"d"
END_FIELD: Final = b"e"

_NAME: Final = re.compile(rf"[A-Za-z0-9._-]{{1,{MAX_STREAM_NAME_LENGTH}}}")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def is_stream_name(name: str) -> bool:
    """Check whether the text is a valid name of a stream."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class StreamKeys:
    """The two keys of one stream of one attempt."""

    chunks: str
    head: str

    @classmethod
    def of(cls, installation: str, *, stage_id: int, attempt: int, started_at: datetime, name: str) -> StreamKeys:
        """Return the keys of a stream. `started_at` is when the attempt started, as its stage has it."""
        since = started_at - _EPOCH
        microseconds = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
        key = f"{KEY_PREFIX}{installation}.{stage_id}.{attempt}.{microseconds}.{name}"
        return cls(chunks=key, head=f"{key}/head")

    def server_of(self, urls: Sequence[str]) -> str:
        """Return the URL of the Redis server that has the keys."""
        return urls[crc32(self.chunks.encode()) % len(urls)]


def character_end(data: bytes | bytearray, end: int) -> int:
    """Return the last position up to `end` that lies between two characters of UTF-8."""
    while 0 < end < len(data) and data[end] & 0xC0 == 0x80:
        end -= 1
    return end


def character_start(data: bytes) -> int:
    """Return the first position that lies between two characters: 0, unless the first one is incomplete."""
    start = 0
    while start < min(len(data), 4) and data[start] & 0xC0 == 0x80:
        start += 1
    return start
