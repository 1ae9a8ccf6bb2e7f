"""What the caller iterates over: events of a channel, and states."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Generic, Self, TypeVar

from mahavishnu_client.connection import Connection, ConnectionState
from mahavishnu_client.errors import ClientClosed, ClientError
from mahavishnu_client.events import Event, HistoryLost
from mahavishnu_client.sinks import EventQueue, StateCell
from mahavishnu_client.state import State
from mahavishnu_client.subscription import Subscription
from mahavishnu_client.views import LiveView, view_of

Item = Event | HistoryLost


class _Stream:
    """An iterator that ends its subscription when it is closed, or when nothing refers to it any longer."""

    def __init__(self, close: Callable[[], None]) -> None:
        self._close = close
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
            self._close()

    def __del__(self) -> None:
        if not getattr(self, "_is_closed", True) and not self._loop.is_closed():
            self._is_closed = True
            # The last reference may be dropped in any thread.
            self._loop.call_soon_threadsafe(self._close)


class EventStream(_Stream):
    """The events of one channel, in order: `async for event in client.events("global")`.

    An item is an `Event`, or `HistoryLost` where events are missing. While the caller handles one item, others wait:
    at most `Options.max_queued_events`, and `Options.max_queued_bytes`. Beyond that the client unsubscribes, and
    resumes when the caller has handled half of them. So a slow caller loses nothing that the log of the server still
    has, and delays nothing else.

    Attributes:
        channel: The channel.
    """

    def __init__(self, channel: str, queue: EventQueue, close: Callable[[], None]) -> None:
        super().__init__(close)
        self.channel = channel
        self._queue = queue

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        queue = self._queue
        queue.finish_item()
        while (item := queue.take()) is None:
            if queue.error is not None:
                raise _ended(queue.error)
            if self._is_closed:
                raise StopAsyncIteration
            await queue.waiters.wait()
        return item

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

    def take_ready(self, count: int) -> list[Item]:
        """Return up to `count` further items that have arrived. With the last one, they count as handled together."""
        items: list[Item] = []
        while len(items) < count and (item := self._queue.take()) is not None:
            items.append(item)
        return items

    def close(self) -> None:
        """End the subscription, and the iteration."""
        super().close()
        self._queue.waiters.wake()


T = TypeVar("T", bound=LiveView)


class StateStream(_Stream, Generic[T]):
    """The state of one resource, each time it changes. A slow caller gets the newest state only.

    It ends when the resource is removed. While the resource does not exist yet, it waits.
    """

    def __init__(
        self,
        source: StateSource,
        select: Callable[[State], object],
        close: Callable[[], None],
    ) -> None:
        super().__init__(close)
        self._source = source
        self._select = select
        self._seen: tuple[object, bool] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        cell = self._source.cell
        while True:
            if cell.error is not None:
                raise _ended(cell.error)
            if self._is_closed:
                raise StopAsyncIteration
            if (view := self._changed()) is not None:
                return view
            if cell.is_loaded and cell.state is None and self._seen is not None:
                raise StopAsyncIteration
            await cell.waiters.wait()

    def close(self) -> None:
        """End the subscription, and the iteration."""
        super().close()
        self._source.cell.waiters.wake()

    def _changed(self) -> T | None:
        """Return the state if the caller has not seen it; None if there is nothing new."""
        state = self._source.cell.state
        if state is None:
            return None
        selected, is_live = self._select(state), self._source.is_live
        if self._seen is not None and self._seen[0] is selected and self._seen[1] == is_live:
            return None
        self._seen = (selected, is_live)
        view: T = view_of(state, as_of=self._source.as_of, is_live=is_live)  # type: ignore[assignment]
        return view


class StateSource:
    """A state, and whether it is live.

    Args:
        cell: The state.
        subscription: Its channel.
        connection: The connection.
    """

    __slots__ = ("_connection", "cell", "subscription")

    def __init__(self, cell: StateCell, subscription: Subscription, connection: Connection) -> None:
        self.cell = cell
        self.subscription = subscription
        self._connection = connection

    @property
    def is_live(self) -> bool:
        """Whether the state is that of the server now."""
        return self._is_current and self._connection.state is not ConnectionState.STALE

    @property
    def as_of(self) -> datetime:
        """When the state was last known to be that of the server."""
        seconds = self._connection.received_at if self._is_current or not self.cell.as_of else self.cell.as_of
        return datetime.fromtimestamp(seconds, UTC)

    @property
    def _is_current(self) -> bool:
        return self.cell.is_open and not self.subscription.missed


def _ended(error: ClientError) -> Exception:
    """Return what ends an iteration: nothing more for a closed client, else the error."""
    return StopAsyncIteration() if isinstance(error, ClientClosed) else error
