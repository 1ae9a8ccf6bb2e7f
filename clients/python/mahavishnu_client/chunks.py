"""What a stream of chunks delivers, and the queue of one reader."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from mahavishnu_client.errors import ClientError
from mahavishnu_client.options import Options
from mahavishnu_client.sinks import Waiters


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """Consecutive text, or bytes, of a stream.

    Attributes:
        offset: Bytes of the stream before it; of a text, bytes of its UTF-8.
        data: The text or the bytes.
        attempt: The attempt that wrote it.
    """

    offset: int
    data: str | bytes
    attempt: int

    @property
    def end(self) -> int:
        """Bytes of the stream up to its end."""
        return self.offset + (len(self.data.encode()) if isinstance(self.data, str) else len(self.data))


class StreamGap(msgspec.Struct, frozen=True, gc=False):
    """A gap: the bytes from `offset` up to `end` can no longer be delivered."""

    offset: int
    end: int
    attempt: int


class StreamReset(msgspec.Struct, frozen=True, gc=False):
    """Another attempt began: forget the chunks that came before. The stream begins again at 0."""

    attempt: int


class StreamClosed(msgspec.Struct, frozen=True, gc=False):
    """The end of a stream.

    Attributes:
        attempt: The attempt that wrote it.
        status: The status of its stage; the stream is whole only if that is `completed`.
        length: Its size in bytes.
        sha256: Of its bytes, in hexadecimal; None if it is not whole.
    """

    attempt: int
    status: str
    length: int
    sha256: str | None


class ReceivedChunk(msgspec.Struct, frozen=True):
    """The data of `stream.chunk`."""

    attempt: int
    offset: int
    delta: str | None = None
    base64: str | None = None

    def decoded(self) -> Chunk:
        """Return the chunk."""
        data = base64.b64decode(self.base64) if self.base64 is not None else self.delta or ""
        return Chunk(self.offset, data, self.attempt)


StreamItem: TypeAlias = Chunk | StreamGap | StreamReset


class ChunkQueue:
    """The items of one reader that wait for its caller.

    Args:
        options: The bound of what waits.
        offset: Where it begins.
        attempt: The attempt that `offset` belongs to; None for the current one.
        on_room: Called when the caller has handled half of a full queue.

    Attributes:
        is_full: Whether it takes nothing more until its caller has handled half of it.
        end: The end of the stream, once it has come.
        error: Why it ended, if it did.
    """

    def __init__(self, options: Options, *, offset: int, attempt: int | None, on_room: Callable[[], None]) -> None:
        self.offset = offset
        self.attempt = attempt
        self.is_full = False
        self.end: StreamClosed | None = None
        self.error: ClientError | None = None
        self.waiters = Waiters()
        self._max_bytes = options.max_queued_bytes
        self._on_room = on_room
        self._items: deque[tuple[StreamItem, int]] = deque()
        self._bytes = 0

    def start(self, attempt: int) -> None:
        """Take the chunks of an attempt: the server has answered which one it is."""
        if self.attempt is not None and self.attempt != attempt and (self.attempt or self.offset):
            self.restart(attempt)
        self.attempt = attempt

    def push(self, chunk: Chunk) -> None:
        """Take a chunk, or what of it is new."""
        # The stage had not started when the server answered.
        self.attempt = self.attempt or chunk.attempt
        if self.is_full or chunk.attempt != self.attempt:
            return
        end = chunk.end
        if chunk.offset > self.offset or end <= self.offset:
            return  # It follows on what another reader has, or this one has it.
        if chunk.offset < self.offset:
            data = chunk.data
            known = self.offset - chunk.offset
            rest = data.encode()[known:].decode() if isinstance(data, str) else data[known:]
            chunk = Chunk(self.offset, rest, chunk.attempt)
        self.offset = end
        self._add(chunk, end - chunk.offset)

    def lose(self, lost: StreamGap) -> None:
        """Take a gap."""
        self.attempt = self.attempt or lost.attempt
        if not self.is_full and lost.attempt == self.attempt and lost.offset <= self.offset < lost.end:
            self._add(StreamGap(self.offset, lost.end, lost.attempt), 0)
            self.offset = lost.end

    def restart(self, attempt: int) -> None:
        """Begin again at 0."""
        self.attempt, self.offset = attempt, 0
        if not self.is_full:
            self._add(StreamReset(attempt), 0)

    def finish(self, end: StreamClosed) -> None:
        """Take the end, unless the rest has yet to be asked for."""
        self.attempt = self.attempt or end.attempt
        if not self.is_full and end.attempt == self.attempt:
            self.end = end
            self.waiters.wake()

    def fail(self, error: ClientError) -> None:
        """End with an error."""
        self.error = error
        self.waiters.wake()

    def take(self) -> StreamItem | None:
        """Return the next item; None if none waits."""
        if not self._items:
            return None
        item, size_bytes = self._items.popleft()
        self._bytes -= size_bytes
        if self.is_full and self._bytes <= self._max_bytes // 2:
            self.is_full = False
            self._on_room()
        return item

    def _add(self, item: StreamItem, size_bytes: int) -> None:
        self._items.append((item, size_bytes))
        self._bytes += size_bytes
        self.is_full = self._bytes >= self._max_bytes
        self.waiters.wake()
