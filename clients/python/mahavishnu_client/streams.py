"""What the caller iterates over: events of a channel, chunks of a stream, and states."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Self

from mahavishnu_client.chunks import ChunkQueue, StreamClosed, StreamItem
from mahavishnu_client.errors import ClientClosed, ClientError
from mahavishnu_client.events import Event, HistoryLost
from mahavishnu_client.sinks import EventQueue, Sink

Item = Event | HistoryLost


class Stream:
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


class EventStream(Stream):
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
        super().__init__()
        self._detach = detach
        self.channel = channel
        self._queue = queue

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        queue = self._queue
        while not self._is_closed:
            if (item := queue.take()) is not None:
                return item
            if queue.error is not None:
                raise ended(queue.error)
            await queue.waiters.wait()
        raise StopAsyncIteration

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


class ChunkStream(Stream):
    """A stream of chunks: `async for item in client.stream(workflow_id, stage_name, name)`.

    An item is a `Chunk`, `StreamGap`, or `StreamReset` if another attempt began. The iteration ends with the
    stream; then `end` says how. While the caller handles one item, at most `Options.max_queued_bytes` wait.

    Attributes:
        channel: The channel of the stream.
    """

    __slots__ = ("_detach", "_queue", "channel")

    def __init__(self, channel: str, queue: ChunkQueue, detach: Callable[[str, ChunkQueue], None]) -> None:
        super().__init__()
        self._detach = detach
        self._queue = queue
        self.channel = channel

    @property
    def end(self) -> StreamClosed | None:
        """The end of the stream; None before it."""
        return self._queue.end

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamItem:
        queue = self._queue
        while not self._is_closed:
            if (item := queue.take()) is not None:
                return item
            if queue.error is not None:
                raise ended(queue.error)
            if queue.end is not None:
                break
            await queue.waiters.wait()
        raise StopAsyncIteration

    def _release(self) -> None:
        self._detach(self.channel, self._queue)
        self._queue.waiters.wake()


def ended(error: ClientError) -> Exception:
    """Return what ends an iteration: nothing more for a closed client, else the error."""
    return StopAsyncIteration() if isinstance(error, ClientClosed) else error
