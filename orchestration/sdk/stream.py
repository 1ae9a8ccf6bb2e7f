"""A stream of chunks that a stage writes: tokens of an answer, audio, the output of a tool.

Everything here is in memory. `orchestration.worker.stream_sender` sends what is written, in another thread.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Collection
from threading import Lock
from typing import NamedTuple, Protocol, Self, get_args

from orchestration.limits import engine_limits
from orchestration.secret_mask import ChunkMask
from orchestration.services import WrittenStream
from orchestration.stream_keys import (
    MAX_CHUNK_BYTES,
    STREAM_NAME_EXPECTED,
    StreamContentType,
    character_end,
    is_stream_name,
)


class Chunk(NamedTuple):
    """Consecutive bytes of a stream, from `offset` on."""

    offset: int
    data: bytes


class Stream:
    """One stream of one attempt, made by `ctx.stream()`. Thread-safe.

    The first `kept_bytes` are kept until the attempt ends: they are stored, and sent again if Redis has lost them. Of
    what follows, at most `buffer_bytes` wait to be sent; then the oldest are dropped, and readers are sent a gap.

    Args:
        name: Its name.
        content_type: Whether chunks are text or bytes.
        kept_bytes: How much is kept.
        buffer_bytes: How much more may wait.
        on_write: Called after each write.

    Attributes:
        length: Bytes that were written, without secrets of the run and without what is held back for them.
    """

    def __init__(
        self,
        name: str,
        content_type: StreamContentType,
        *,
        kept_bytes: int,
        buffer_bytes: int,
        on_write: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self.content_type: StreamContentType = content_type
        self.length = 0
        self._kept_bytes = kept_bytes
        self._buffer_bytes = buffer_bytes
        self._on_write = on_write
        self._lock = Lock()
        self._kept = bytearray()
        self._is_full = False
        self._waiting: deque[Chunk] = deque()
        self._waiting_bytes = 0
        self._sha256 = hashlib.sha256()
        self._mask = ChunkMask()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, delta: str | bytes) -> None:
        """Append text, or bytes, to the stream. Never waits, and does not fail while Redis is unavailable.

        Secrets of the run are replaced by `***`. An end that may be the beginning of a secret is held back until the
        next write, or the end of the stream.

        Raises:
            TypeError: if this is not the type of the stream's content.
            ValueError: if the stream is closed.
        """
        if self.content_type == "text":
            if not isinstance(delta, str):
                raise TypeError(f"Stream {self.name} takes text, not {type(delta).__name__}")
            data = delta.encode(errors="replace")
        elif isinstance(delta, bytes | bytearray | memoryview):
            data = bytes(delta)
        else:
            raise TypeError(f"Stream {self.name} takes bytes, not {type(delta).__name__}")
        with self._lock:
            if self._is_closed:
                raise ValueError(f"Stream {self.name} is closed")
            if data := self._mask.push(data):
                self._append(data)
        self._on_write()

    def close(self) -> None:
        """End the stream: nothing more can be written. Its readers see the end when the stage completes."""
        with self._lock:
            self._is_closed = True
            if data := self._mask.flush():
                self._append(data)
        self._on_write()

    @property
    def kept_length(self) -> int:
        """How many bytes are kept: the first ones."""
        return len(self._kept)

    @property
    def is_full(self) -> bool:
        """Whether as much is kept as may be."""
        return self._is_full

    def chunk_from(self, offset: int) -> Chunk | None:
        """Return what follows `offset`, or begins later if chunks were dropped; None if there is nothing more."""
        with self._lock:
            if offset < len(self._kept):
                end = min(offset + MAX_CHUNK_BYTES, len(self._kept))
                if self.content_type == "text":
                    end = character_end(self._kept, end)
                return Chunk(offset, bytes(self._kept[offset:end]))
            while self._waiting and self._waiting[0].offset + len(self._waiting[0].data) <= offset:
                self._waiting_bytes -= len(self._waiting.popleft().data)
            if not self._waiting:
                return None
            first = self._waiting[0]
            sent = max(offset - first.offset, 0)
            return Chunk(first.offset + sent, first.data[sent:])

    def written(self) -> WrittenStream:
        """Return what was written, for the database."""
        with self._lock:
            return WrittenStream(
                name=self.name,
                content_type=self.content_type,
                content=bytes(self._kept),
                length=self.length,
                sha256=self._sha256.hexdigest(),
            )

    def _append(self, data: bytes) -> None:
        self._sha256.update(data)
        if not self._is_full:
            end = self._kept_bytes - len(self._kept)
            if len(data) > end:
                self._is_full = True
                end = character_end(data, end) if self.content_type == "text" else end
            kept = data[:end]
            self._kept += kept
            self.length += len(kept)
            data = data[end:]
        while data:
            end = min(MAX_CHUNK_BYTES, len(data))
            if self.content_type == "text":
                end = character_end(data, end)
            self._wait(data[:end])
            data = data[end:]

    def _wait(self, data: bytes) -> None:
        last = self._waiting[-1] if self._waiting else None
        if last is not None and len(last.data) + len(data) <= MAX_CHUNK_BYTES:
            # Join it, so that many small writes take few chunks.
            self._waiting[-1] = Chunk(last.offset, last.data + data)
        else:
            self._waiting.append(Chunk(self.length, data))
        self.length += len(data)
        self._waiting_bytes += len(data)
        while self._waiting_bytes > self._buffer_bytes:
            self._waiting_bytes -= len(self._waiting.popleft().data)


class StreamSink(Protocol):
    """What sends streams to their readers while the stage runs."""

    def add(self, stream: Stream) -> None:
        """Send what is written into a stream from now on."""

    def on_write(self) -> None:
        """Send soon: something was written."""


class OpenedStreams:
    """The streams that one attempt has opened.

    Args:
        sink: What sends them; None if nothing does.
        known: The names of the streams that earlier attempts have opened: they count too.

    Attributes:
        by_name: The streams.
    """

    def __init__(self, sink: StreamSink | None, known: Collection[str] = ()) -> None:
        self.by_name: dict[str, Stream] = {}
        self._sink = sink
        self._known = frozenset(known)

    def open(self, name: str, content_type: StreamContentType) -> Stream:
        """Open a stream.

        Raises:
            ValueError: as `ctx.stream` does.
        """
        limits = engine_limits()
        if not isinstance(name, str) or not is_stream_name(name):
            raise ValueError(f"Invalid name of a stream {name!r}: expected {STREAM_NAME_EXPECTED}")
        if content_type not in get_args(StreamContentType):
            raise ValueError(f"Invalid content type {content_type!r}: expected 'text' or 'bytes'")
        if name in self.by_name:
            raise ValueError(f"Stream {name} was opened before in this attempt; write all chunks into one stream")
        names = {name, *self.by_name, *self._known}
        if len(names) > limits.max_streams and name not in self._known:
            raise ValueError(f"Stream limit reached ({limits.max_streams} in one stage, those of all attempts)")
        stream = self.by_name[name] = Stream(
            name,
            content_type,
            kept_bytes=limits.max_stream_bytes,
            buffer_bytes=limits.max_stream_buffer_bytes,
            on_write=_ignore if self._sink is None else self._sink.on_write,
        )
        if self._sink is not None:
            self._sink.add(stream)
        return stream


def _ignore() -> None:
    """Send nothing."""
