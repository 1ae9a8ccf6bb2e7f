"""The client for programs without an event loop: `from mahavishnu_client.sync import connect`.

A thread runs the event loop of the client. Everything else is as in `mahavishnu_client`, with `for` and `with` instead
of `async for` and `async with`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Self, TypeVar

from mahavishnu_client import client as async_client
from mahavishnu_client.chunks import Chunk, StreamClosed, StreamGap, StreamItem, StreamReset
from mahavishnu_client.connection_state import ConnectionState
from mahavishnu_client.errors import (
    AuthenticationError,
    ClientClosed,
    ClientError,
    ConnectionLost,
    Forbidden,
    NotFound,
    RequestFailed,
    RequestTimeout,
)
from mahavishnu_client.events import Event, HistoryLost, Position, UnknownEvent
from mahavishnu_client.options import Options
from mahavishnu_client.state_table import StateStream
from mahavishnu_client.streams import ChunkStream, EventStream, Item
from mahavishnu_client.sync_requests import SyncRequests
from mahavishnu_client.tokens import Token
from mahavishnu_client.views import LiveOverview, LivePool, LiveRun, LiveWorker

__all__ = [
    "AuthenticationError",
    "Chunk",
    "Client",
    "ClientClosed",
    "ClientError",
    "ConnectionLost",
    "ConnectionState",
    "Event",
    "Forbidden",
    "HistoryLost",
    "NotFound",
    "Options",
    "Position",
    "RequestFailed",
    "RequestTimeout",
    "StreamClosed",
    "StreamGap",
    "StreamReset",
    "SyncChunks",
    "SyncEvents",
    "SyncStates",
    "UnknownEvent",
    "connect",
]

_ITEMS_AT_ONCE = 256
"""Events that are passed from thread to thread together, at most."""

T = TypeVar("T")
R = TypeVar("R")
V = TypeVar("V", LiveRun, LivePool, LiveWorker, LiveOverview)


def connect(
    url: str,
    *,
    token: Token | None = None,
    resume_from: Position | str | None = None,
    options: Options | None = None,
    **connect_options: Any,
) -> Client:
    """Return a client of a server, for `with`. See `mahavishnu_client.connect`."""
    return Client(async_client.connect(url, token=token, resume_from=resume_from, options=options, **connect_options))


class Client(SyncRequests):
    """A client of one server. Use `connect` to make one. Its methods may be called in any thread."""

    def __init__(self, client: async_client.Client) -> None:
        self._client = client
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._is_closed = False

    def __enter__(self) -> Self:
        if self._is_closed:
            raise ClientClosed("The client was closed: call `connect` again")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="mahavishnu-client", daemon=True)
        self._thread.start()
        self._run(self._client.__aenter__())
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection. Iterators end, and unanswered requests fail with `ClientClosed`."""
        with self._lock:
            was_closed, self._is_closed = self._is_closed, True
        # A child of a fork has the loop without its thread.
        if not was_closed and self._loop is not None and self._thread is not None and self._thread.is_alive():
            asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _end(self) -> None:
        await self._client.close()
        # Calls of other threads that still wait, such as for the time to send a request again.
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    @property
    def state(self) -> ConnectionState:
        """The state of the connection: connecting, live, stale, offline, draining or closed."""
        return self._client.state

    @property
    def position(self) -> Position | None:
        """The position up to which every event of `events` was handled; None before the first connection."""
        return self._client.position if self._is_closed else self._do(lambda: self._client.position)

    def wait_live(self, timeout_seconds: float | None = None) -> None:
        """Return as soon as every event is delivered as it happens.

        Raises:
            TimeoutError: if that takes longer than `timeout_seconds`.
            ClientClosed: if the client is closed.
            AuthenticationError: if the server does not accept its token.
        """

        async def wait() -> None:
            async with asyncio.timeout(timeout_seconds):
                await self._client.wait_live()

        self._run(wait())

    def probe(self) -> None:
        """Find out at once whether the connection works."""
        self._do(self._client.probe)

    def events(self, channel: str, *, resume_from: Position | str | None = None) -> SyncEvents:
        """Return an iterator of the events of a channel: all from now on, or all after `resume_from`."""
        return SyncEvents(self, self._do(lambda: self._client.events(channel, resume_from=resume_from)))

    def follow(self, workflow_id: str) -> SyncStates[LiveRun]:
        """Return an iterator of a run: its state each time it changes, or becomes old or live again."""
        return SyncStates(self, self._do(lambda: self._client.follow(workflow_id)))

    def pool(self, pool_id: str) -> SyncStates[LivePool]:
        """Return an iterator of a pool with its workers."""
        return SyncStates(self, self._do(lambda: self._client.pool(pool_id)))

    def worker(self, worker_id: str) -> SyncStates[LiveWorker]:
        """Return an iterator of a worker."""
        return SyncStates(self, self._do(lambda: self._client.worker(worker_id)))

    def overview(self) -> SyncStates[LiveOverview]:
        """Return an iterator of the unfinished runs and the pools, without their stages and workers."""
        return SyncStates(self, self._do(self._client.overview))

    def pools(self) -> SyncStates[LiveOverview]:
        """Return the same iterator as `overview`, for changes of the pools only."""
        return SyncStates(self, self._do(self._client.pools))

    def stream(
        self, workflow_id: str, stage_name: str, name: str, *, offset: int = 0, attempt: int | None = None
    ) -> SyncChunks:
        """Return an iterator of a stream of chunks: see `mahavishnu_client.Client.stream`."""
        stream = self._client.stream
        return SyncChunks(self, self._do(lambda: stream(workflow_id, stage_name, name, offset=offset, attempt=attempt)))

    def request(self, name: str, data: dict[str, Any], *, timeout_seconds: float | None = None) -> Any:
        """Send any request, and return the data of its response as it is in JSON."""
        return self._run(self._client.request(name, data, timeout_seconds=timeout_seconds))

    def _call(self, name: str, data: dict[str, Any], response: type[T], timeout_seconds: float | None) -> T:
        return self._run(self._client._call(name, data, response, timeout_seconds))

    def _do(self, function: Callable[[], T]) -> T:
        async def do() -> T:
            return function()

        return self._run(do())

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            thread, loop = self._thread, self._loop
            if self._is_closed or loop is None or thread is None or not thread.is_alive():
                coroutine.close()
                reason = "was closed" if self._is_closed else "is not open: use `with connect(…) as client`"
                raise ClientClosed(f"The client {reason}")
            future = asyncio.run_coroutine_threadsafe(coroutine, loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise ClientClosed("The client was closed") from None
        except KeyboardInterrupt:
            future.cancel()
            raise


class _Ended(Exception):
    """The iteration has ended. A coroutine cannot raise `StopIteration`."""


class _SyncIterator(Generic[T]):
    """An iterator whose items are made in the thread of the client."""

    def __init__(self, client: Client, stream: Any) -> None:
        self._client = client
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        return self._wait(self._next())

    def _wait(self, coroutine: Coroutine[Any, Any, R]) -> R:
        try:
            return self._client._run(coroutine)
        except (_Ended, ClientClosed):
            raise StopIteration from None

    def close(self) -> None:
        """End the subscription, and the iteration."""
        with contextlib.suppress(ClientClosed):
            self._client._do(self._stream.close)

    async def _next(self) -> T:
        try:
            item: T = await anext(self._stream)
        except StopAsyncIteration:
            raise _Ended from None
        return item


class SyncStates(_SyncIterator[V]):
    """The state of one resource, each time it changes: see `mahavishnu_client.StateStream`."""

    _stream: StateStream[V]


class SyncChunks(_SyncIterator[StreamItem]):
    """The chunks of one stream: see `mahavishnu_client.ChunkStream`."""

    _stream: ChunkStream

    @property
    def end(self) -> StreamClosed | None:
        """The end of the stream; None before it."""
        return self._stream.end


class SyncEvents(_SyncIterator[Item]):
    """The events of one channel, in order: see `mahavishnu_client.EventStream`."""

    _stream: EventStream

    def __init__(self, client: Client, stream: EventStream) -> None:
        super().__init__(client, stream)
        self._ready: deque[Item] = deque()
        self._in_hand: Item | None = None

    def __next__(self) -> Item:
        if self._in_hand is not None:
            self._stream.mark_handled(self._in_hand)
            self._in_hand = None
        while True:
            try:
                item = self._in_hand = self._ready.popleft()
            except IndexError:
                self._wait(self._read())
            else:
                return item

    async def _read(self) -> None:
        # An interrupted call loses nothing: what was taken from the stream is kept here.
        self._ready.append(await self._next())
        self._ready.extend(self._stream.take_more(_ITEMS_AT_ONCE - 1))
