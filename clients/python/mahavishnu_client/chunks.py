"""What a stream of chunks delivers, and the queue of one reader."""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from mahavishnu_client.errors import ClientError
from mahavishnu_client.options import Options
from mahavishnu_client.queue_bound import QueueBound
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
        offset: The end of what it has taken, in bytes of the stream.
        attempt: The attempt of these bytes; None before the first answer, 0 while the stage has not started.
        is_open: Whether the next message of the stream follows on what it has taken.
        is_full: Whether it takes nothing more of this attempt until its caller has handled half of it.
        end: The end of the stream, once it has come.
        error: Why it ended, if it did.
    """

    def __init__(self, options: Options, *, offset: int, attempt: int | None, on_room: Callable[[], None]) -> None:
        self.offset = offset
        self.attempt = attempt
        self.is_open = False
        self.is_full = False
        self.end: StreamClosed | None = None
        self.error: ClientError | None = None
        self.waiters = Waiters()
        self._bound = QueueBound(options)
        self._on_room = on_room
        self._items: deque[tuple[StreamItem, int]] = deque()

    @property
    def needs_answer(self) -> bool:
        """Whether nothing follows for it until the server has answered another `subscribe`."""
        return not self.is_open and not self.is_full and self.end is None

    def open(self, attempt: int, offset: int) -> None:
        """Take what follows: the server has answered which attempt it sends, and from which offset on."""
        if self.end is not None:
            return
        if self.attempt is not None and self.attempt != attempt and (self.attempt or self.offset):
            self.restart(attempt)
        self.attempt = attempt
        # The `subscribe` may have been sent for other readers of the stream, which are further.
        self.is_open = not self.is_full and offset <= self.offset

    def push(self, chunk: Chunk) -> None:
        """Take a chunk, or what of it is new."""
        if not self._takes(chunk.attempt):
            return
        end = chunk.end
        if chunk.offset > self.offset or end <= self.offset:
            return  # Another reader of the stream needs it.
        if chunk.offset < self.offset:
            data = chunk.data
            known = self.offset - chunk.offset
            rest = data.encode()[known:].decode() if isinstance(data, str) else data[known:]
            chunk = Chunk(self.offset, rest, chunk.attempt)
        self._admit(chunk, end - chunk.offset, end=end)

    def lose(self, lost: StreamGap) -> None:
        """Take a gap."""
        if self._takes(lost.attempt) and lost.offset <= self.offset < lost.end:
            self._admit(StreamGap(self.offset, lost.end, lost.attempt), 0, end=lost.end)

    def restart(self, attempt: int) -> None:
        """Begin another attempt at 0. What waits is void, so a full queue has room again."""
        if self.end is not None or self.attempt is None:
            return
        self.attempt, self.offset = attempt, 0
        self._items.clear()
        self._bound.clear()
        self.is_open, self.is_full = True, False
        self._add(StreamReset(attempt), 0)

    def finish(self, end: StreamClosed) -> None:
        """Take the end, unless the rest has yet to be asked for."""
        if self._takes(end.attempt):
            self.end = end
            self.is_open = False
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
        self._bound.remove(size_bytes)
        if self.is_full and self._bound.is_half_free:
            self.is_full = False
            self._on_room()
        return item

    def _takes(self, attempt: int) -> bool:
        """Return whether a message of an attempt follows on what it has taken."""
        if not self.is_open:
            return False
        # The stage had not started when the server answered.
        self.attempt = self.attempt or attempt
        return attempt == self.attempt

    def _admit(self, item: StreamItem, size_bytes: int, *, end: int) -> None:
        """Add an item that ends at an offset, if there is room."""
        if self._bound.admits(size_bytes):
            self.offset = end
            self._add(item, size_bytes)
        else:
            self.is_open, self.is_full = False, True

    def _add(self, item: StreamItem, size_bytes: int) -> None:
        self._items.append((item, size_bytes))
        self._bound.add(size_bytes)
        self.waiters.wake()
