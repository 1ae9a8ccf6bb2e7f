"""The states that a client follows, and their iterators."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Generic, Self, TypeVar

from mahavishnu_client.connection import Connection
from mahavishnu_client.connection_state import ConnectionState
from mahavishnu_client.options import Options
from mahavishnu_client.sinks import StateCell
from mahavishnu_client.state import State
from mahavishnu_client.streams import ChannelIterator, ended
from mahavishnu_client.views import LiveView, view_of

T = TypeVar("T", bound=LiveView)


def _whole(state: State) -> object:
    return state


class StateTable:
    """The states of one client. Iterators of one channel share its state.

    Args:
        connection: The connection.
        options: `reread_after_seconds`.
    """

    def __init__(self, connection: Connection, options: Options) -> None:
        self._connection = connection
        self._options = options
        self._cells: dict[str, StateCell] = {}
        self._on_truncated = self._reread  # One object for all states.

    def open(self, channel: str, select: Callable[[State], object] = _whole) -> StateStream[T]:
        """Return an iterator of the state of a channel.

        Args:
            channel: The channel.
            select: Returns the part of the state whose changes matter.
        """
        cell = self._cells.get(channel)
        if cell is None or cell.error is not None:
            cell = self._cells[channel] = StateCell(channel, on_truncated=self._on_truncated)
            self._connection.session.attach(channel, cell)
        cell.user_count += 1
        return StateStream(self, cell, select)

    def release(self, cell: StateCell) -> None:
        """Count one iterator less, and end the subscription after the last one."""
        cell.user_count -= 1
        if not cell.user_count:
            if self._cells.get(cell.channel) is cell:
                del self._cells[cell.channel]
            self._connection.session.detach(cell.channel, cell)

    def is_live(self, cell: StateCell) -> bool:
        """Return whether the state is that of the server now."""
        return self._is_current(cell) and self._connection.state is not ConnectionState.STALE

    def as_of(self, cell: StateCell) -> datetime:
        """Return when the state was last known to be that of the server."""
        seconds = self._connection.received_at if self._is_current(cell) or not cell.as_of else cell.as_of
        return datetime.fromtimestamp(seconds, UTC)

    def _is_current(self, cell: StateCell) -> bool:
        return cell.is_open and not self._connection.session.missed_count(cell.channel)

    def _reread(self, cell: StateCell) -> None:
        """Read a state again that is incomplete: at once, and then at most every few seconds."""
        loop = asyncio.get_running_loop()
        if cell.needs_snapshot or cell.reread_at > loop.time():
            return
        pause_seconds = self._options.reread_after_seconds if cell.is_truncated_snapshot else 0.0
        cell.reread_at = loop.time() + pause_seconds

        def reread() -> None:
            if self._cells.get(cell.channel) is cell:
                cell.needs_snapshot = True
                self._connection.session.resubscribe(cell.channel)

        loop.call_later(pause_seconds, reread)


class StateStream(ChannelIterator, Generic[T]):
    """The state of one resource, each time it changes. A slow caller gets the newest state only.

    It ends when the resource is removed. While the resource does not exist yet, it waits.
    """

    __slots__ = ("_cell", "_seen_part", "_select", "_table", "_was_live")

    def __init__(self, table: StateTable, cell: StateCell, select: Callable[[State], object]) -> None:
        super().__init__()
        self._table = table
        self._cell = cell
        self._select = select
        self._seen_part: object = None
        self._was_live = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        cell = self._cell
        while True:
            if cell.error is not None:
                raise ended(cell.error)
            if self._is_closed:
                raise StopAsyncIteration
            if (view := self._changed()) is not None:
                return view
            if cell.is_loaded and cell.state is None and self._seen_part is not None:
                raise StopAsyncIteration
            await cell.waiters.wait()

    def _release(self) -> None:
        self._table.release(self._cell)
        self._cell.waiters.wake()

    def _changed(self) -> T | None:
        """Return the state if the caller has not seen it; None if there is nothing new."""
        cell = self._cell
        state = cell.state
        if state is None:
            return None
        part, is_live = self._select(state), self._table.is_live(cell)
        if part is self._seen_part and is_live == self._was_live:
            return None
        self._seen_part, self._was_live = part, is_live
        view: T = view_of(state, as_of=self._table.as_of(cell), is_live=is_live)  # type: ignore[assignment]
        return view
