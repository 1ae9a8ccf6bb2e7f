"""What the caller iterates over: the events of a channel, and the chunks of a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, Protocol, Self, TypeVar

from mahavishnu_client.chunks import ChunkQueue, StreamClosed, StreamItem
from mahavishnu_client.errors import ClientClosed, ClientError
from mahavishnu_client.events import Event, HistoryLost
from mahavishnu_client.sinks import EventQueue, Sink, Waiters

Item = Event | HistoryLost
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class ItemQueue(Protocol[T_co]):
    """The items of one iterator that wait for its caller.

    Attributes:
        waiters: Wakes the iterator when there is something new.
        error: Why nothing more follows, if so.
    """

    waiters: Waiters
    error: ClientError | None

    def take(self) -> T_co | None:
        """Return the next item; None if there is none."""


class ChannelIterator:
    """An iterator that ends its subscription when it is closed, or when nothing refers to it any longer."""

    __slots__ = ("_is_closed", "_loop")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._is_closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    async def aclose(self) -> None:
        """End the subscription."""
        self.close()

    def close(self) -> None:
        """End the subscription."""
        if not self._is_closed:
            self._is_closed = True
            self._release()

    def _release(self) -> None:
        """End the part of the subscription that is for this iterator, and wake what waits for it."""
        raise NotImplementedError

    def __del__(self) -> None:
        if not getattr(self, "_is_closed", True) and not self._loop.is_closed():
            self._is_closed = True
            # The last reference may be dropped in any thread.
            self._loop.call_soon_threadsafe(self._release)


class QueueIterator(ChannelIterator, Generic[T]):
    """Iterates over the items of a queue."""

    __slots__ = ("_items",)

    def __init__(self, items: ItemQueue[T]) -> None:
        super().__init__()
        self._items = items

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        items = self._items
        while not self._is_closed:
            if (item := items.take()) is not None:
                return item
            if items.error is not None:
                raise ended(items.error)
            if self._is_at_end():
                break
            await items.waiters.wait()
        raise StopAsyncIteration

    def _is_at_end(self) -> bool:
        """Return whether nothing follows the items that were taken."""
        return False


class EventStream(QueueIterator[Item]):
    """The events of one channel, in order: `async for event in client.events("global")`.

    An item is an `Event`, or `HistoryLost` where events are missing. While the caller handles one item, others wait:
    at most `Options.max_queued_events`, and `Options.max_queued_bytes`. Beyond that the client unsubscribes, and
    resumes when the caller has handled half of them. So a slow caller loses nothing that the log of the server still
    has, and delays nothing else.

    Attributes:
        channel: The channel.
    """

    __slots__ = ("_detach", "_queue", "channel")

    def __init__(self, channel: str, queue: EventQueue, detach: Callable[[str, Sink], None]) -> None:
        super().__init__(queue)
        self._detach = detach
        self._queue = queue
        self.channel = channel

    async def wait_open(self) -> None:
        """Return once the server has confirmed the subscription.

        Raises:
            RequestFailed: if it rejects the channel.
        """
        queue = self._queue
        while not queue.is_open and not queue.is_full:
            if queue.error is not None:
                raise queue.error
            await queue.waiters.wait()

    def take_more(self, count: int) -> list[Item]:
        """Return up to `count` further items that have arrived. `mark_handled` counts each as handled."""
        return self._queue.take_more(count)

    def mark_handled(self, item: Item) -> None:
        """Count an item as handled, with all before it. The items of `take_more` need this."""
        self._queue.mark_handled(item)

    def _release(self) -> None:
        self._detach(self.channel, self._queue)
        self._queue.waiters.wake()


class ChunkStream(QueueIterator[StreamItem]):
    """A stream of chunks: `async for item in client.stream(workflow_id, stage_name, name)`.

    An item is a `Chunk`, `StreamGap`, or `StreamReset` if another attempt began. The iteration ends with the
    stream; then `end` says how. While the caller handles one item, others wait within the bounds of `EventStream`; here
    `Options.max_queued_bytes` counts the bytes of the stream. The rest is requested later.

    Attributes:
        channel: The channel of the stream.
    """

    __slots__ = ("_detach", "_queue", "channel")

    def __init__(self, channel: str, queue: ChunkQueue, detach: Callable[[str, ChunkQueue], None]) -> None:
        super().__init__(queue)
        self._detach = detach
        self._queue = queue
        self.channel = channel

    @property
    def end(self) -> StreamClosed | None:
        """The end of the stream; None before it."""
        return self._queue.end

    def _is_at_end(self) -> bool:
        return self._queue.end is not None

    def _release(self) -> None:
        self._detach(self.channel, self._queue)
        self._queue.waiters.wake()


def ended(error: ClientError) -> Exception:
    """Return what ends an iteration: nothing more for a closed client, else the error."""
    return StopAsyncIteration() if isinstance(error, ClientClosed) else error
