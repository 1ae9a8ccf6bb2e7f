"""The reads of replays, snapshots and lists of one process: a few at a time, shared by clients that ask for the same.

A connection handles its `subscribe` requests one after the other, and each chunk of a replay waits for a new turn. So
the queue holds one read of each connection, and connections take turns, however much each of them asks for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Final, TypeVar, cast

from django.db import connection

from realtime.database import in_database_thread
from realtime.limits import Limits
from realtime.queries.chunk_cache import ChunkCache
from realtime.queries.pages import PageQuery
from realtime.queries.replay_turns import ReplayTurns
from realtime.queries.resume import ReplayChunk, ResumePoint, find_resume_point, read_chunk, read_later_chunk

T = TypeVar("T")

TURNS_BY_DATABASE: Final = {"sqlite": 1, "postgresql": 4}
"""Reads that have a turn, by database. SQLite reads in this process, and takes Python's lock for each row: four threads
that read took it so often that the event loop delivered an event after 18 ms instead of 5, and replays were no faster.
"""


class RequestTimeout(Exception):
    """A request took too long, because the database is busy or unavailable. The request may be valid.

    Attributes:
        seconds: How long a request may take.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"timed out after {self.seconds:g} s"


class _SharedRead:
    """One read that several clients may wait for."""

    __slots__ = ("has_turn", "task", "waiting")

    def __init__(self) -> None:
        self.task: asyncio.Task[Any] | None = None
        self.waiting = 0
        self.has_turn = False


class ReplayReads:
    """The queue of one event loop. At most `max_concurrent_replays` reads have a turn; the others wait in order.

    A read without a waiting client leaves the queue. One that has its turn continues without clients: it is short. Its
    time is `request_timeout_seconds`; the time in the queue does not count. If a read times out, all that wait fail
    too: the database would not answer them either, and each would wait until those before it time out.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._turns = ReplayTurns(limits.max_concurrent_replays or TURNS_BY_DATABASE[connection.vendor])
        self._reads: dict[Hashable, _SharedRead] = {}
        self._timeouts = 0
        self._chunks = ChunkCache(max_bytes=limits.max_replay_cache_bytes)

    async def resume_point(
        self, channel: str, *, since: int | None, epoch: str | None, with_snapshot: bool
    ) -> ResumePoint:
        """Return where a subscription starts, read after this call.

        Raises:
            RequestTimeout: if this read, or one before it, takes longer than `request_timeout_seconds`.
            django.db.Error: if the database is unavailable.
        """

        async def read() -> ResumePoint:
            cached = None if since is None else self._chunks.get(channel, since)
            point = await in_database_thread(
                find_resume_point,
                channel,
                since=since,
                epoch=epoch,
                with_snapshot=with_snapshot,
                limits=self._limits,
                cached=cached,
            )
            if point.chunk is not None:
                self._chunks.put(channel, point.chunk)
            return point

        # A request that arrives while this is read needs a later position.
        return await self._share((channel, since, epoch, with_snapshot), read, is_first=True)

    async def chunk(self, channel: str, *, epoch: str, after: int, through: int) -> ReplayChunk:
        """Return the next events of a replay, above `after` up to `through` at most.

        Raises:
            eventlog.reader.PositionOutOfRange: if some of them are pruned, or the log was replaced.
            RequestTimeout: if this read, or one before it, takes longer than `request_timeout_seconds`.
            django.db.Error: if the database is unavailable.
        """
        cached = self._chunks.get(channel, after)
        if cached is not None and cached.epoch == epoch and cached.through <= through:
            return cached

        async def read() -> ReplayChunk:
            chunk = await in_database_thread(
                read_chunk, channel, epoch=epoch, after=after, through=through, limits=self._limits
            )
            self._chunks.put(channel, chunk)
            return chunk

        return await self._share((channel, epoch, after, through), read, during_read=True)

    async def later_chunk(self, channel: str, *, epoch: str, after: int, delivered: int) -> ReplayChunk:
        """Return the next events after a replay, above `after`. `delivered` is the position of the room.

        Raises:
            eventlog.reader.PositionOutOfRange: if some of them are pruned, or the log was replaced.
            RequestTimeout: if this read, or one before it, takes longer than `request_timeout_seconds`.
            django.db.Error: if the database is unavailable.
        """

        async def read() -> ReplayChunk:
            return await in_database_thread(
                read_later_chunk, channel, epoch=epoch, after=after, delivered=delivered, limits=self._limits
            )

        return await self._share((channel, epoch, after, "later"), read)

    async def page(self, query: PageQuery[T]) -> T:
        """Return what a query reads, read after this call.

        Raises:
            RequestTimeout: if this read, or one before it, takes longer than `request_timeout_seconds`.
            django.db.Error: if the database is unavailable.
        """

        async def read() -> T:
            return await in_database_thread(query.read, self._limits)

        return await self._share(query, read, is_first=query.is_first)

    async def _share(
        self, key: Hashable, read: Callable[[], Awaitable[T]], *, during_read: bool = False, is_first: bool = False
    ) -> T:
        """Return the result of the read `key`, which waits for its turn.

        Args:
            key: Clients that ask with the same key share the read.
            read: The read.
            during_read: Whether to join a read that has begun.
            is_first: Whether it is the first one of a subscription or a list.
        """
        shared = self._reads.get(key)
        if shared is None:
            shared = self._reads[key] = _SharedRead()
            shared.task = asyncio.create_task(self._run(key, shared, read, during_read=during_read, is_first=is_first))
            shared.task.add_done_callback(_retrieve_exception)
        shared.waiting += 1
        task = cast("asyncio.Task[T]", shared.task)
        try:
            return await asyncio.shield(task)
        finally:
            shared.waiting -= 1
            if not shared.waiting and not shared.has_turn:
                self._forget(key, shared)
                task.cancel()

    async def _run(
        self,
        key: Hashable,
        shared: _SharedRead,
        read: Callable[[], Awaitable[T]],
        *,
        during_read: bool,
        is_first: bool,
    ) -> T:
        timeouts = self._timeouts
        try:
            async with self._turns.turn(is_first=is_first):
                if self._timeouts != timeouts:
                    raise RequestTimeout(self._limits.request_timeout_seconds)
                shared.has_turn = True
                if not during_read:
                    self._forget(key, shared)
                return await self._in_time(read)
        finally:
            self._forget(key, shared)

    async def _in_time(self, read: Callable[[], Awaitable[T]]) -> T:
        seconds = self._limits.request_timeout_seconds
        try:
            async with asyncio.timeout(seconds) as deadline:
                return await read()
        except TimeoutError:
            if not deadline.expired():
                raise
            self._timeouts += 1
            raise RequestTimeout(seconds) from None
        finally:
            # Break a reference cycle: `deadline` refers to this task, and an exception refers to this frame.
            del deadline

    def _forget(self, key: Hashable, shared: _SharedRead) -> None:
        if self._reads.get(key) is shared:
            del self._reads[key]


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    # All clients may have left. asyncio would log the exception as never retrieved.
    if not task.cancelled():
        task.exception()
