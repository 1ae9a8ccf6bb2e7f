"""The client: events, requests and states over one connection."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Self, TypeVar

from websockets.exceptions import InvalidURI
from websockets.uri import parse_uri

from mahavishnu_client.chunks import ChunkQueue
from mahavishnu_client.connection import Connection
from mahavishnu_client.connection_state import ConnectionState
from mahavishnu_client.errors import ClientClosed, ClientError, ConnectionLost
from mahavishnu_client.events import Event, HistoryLost, Position
from mahavishnu_client.handshake import has_credentials
from mahavishnu_client.options import Options
from mahavishnu_client.request_sender import RequestSender
from mahavishnu_client.session import Session
from mahavishnu_client.sinks import EventQueue
from mahavishnu_client.state_table import StateStream, StateTable
from mahavishnu_client.streams import ChunkStream, EventStream
from mahavishnu_client.tokens import Token, TokenSource, check_url_has_no_token
from mahavishnu_client.views import LiveOverview, LivePool, LiveRun, LiveView, LiveWorker

logger = logging.getLogger(__name__)

Handler = Callable[[Event | HistoryLost], Awaitable[None] | None]
T = TypeVar("T")
V = TypeVar("V", bound=LiveView)


def connect(
    url: str,
    *,
    token: Token | None = None,
    resume_from: Position | str | None = None,
    on_state: Callable[[ConnectionState], None] | None = None,
    options: Options | None = None,
    **connect_options: Any,
) -> Client:
    """Return a client of a server, for `async with`. It connects in the background, and stays connected.

    Args:
        url: The WebSocket URL, such as `ws://127.0.0.1:8690`; `http` and `https` are replaced by `ws` and `wss`.
        token: The token that identifies this client, or a function that returns it. The function is called before
            each attempt to connect, and when the token will expire; it may be a coroutine function.
        resume_from: A stored `client.position`: where the first `client.events` of each channel starts.
        on_state: Called with each new `client.state`, in the event loop. It must return at once.
        options: Times and bounds.
        connect_options: Further arguments for `websockets.connect`, such as `additional_headers` and `ssl`.

    Raises:
        ValueError: if the URL, the token or the position is invalid, or the URL has a token.
    """
    check_url_has_no_token(url)
    if url.startswith("http"):
        url = url.replace("http", "ws", 1)
    try:
        parse_uri(url)
    except InvalidURI as error:
        raise ValueError(f"Invalid URL {url!r}: expected ws:// or wss:// and a host") from error
    source = TokenSource(token)
    if source.is_given and has_credentials(url, connect_options):
        raise ValueError("Give a token, or a user or a header `Authorization`, but not both")
    position = Position.parse(resume_from) if isinstance(resume_from, str) else resume_from
    return Client(url, source, position, on_state, options or Options(), connect_options)


class Client(RequestSender):
    """A client of one server. Use `connect` to make one."""

    def __init__(
        self,
        url: str,
        token: TokenSource,
        resume_from: Position | None,
        on_state: Callable[[ConnectionState], None] | None,
        options: Options,
        connect_options: dict[str, Any],
    ) -> None:
        self._url = url
        self._token = token
        self._resume_from = self._position = resume_from
        self._on_state = on_state
        self._options = options
        self._connect_options = connect_options
        self._connection: Connection | None = None
        self._running: asyncio.Task[None] | None = None
        self._table: StateTable | None = None
        self._resumed: set[str] = set()
        self._handlers: dict[str, tuple[EventStream, asyncio.Task[None]]] = {}

    # --- Opening and closing -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self._connection = Connection(self._url, self._options, self._connect_options, self._token)
        self._table = StateTable(self._connection, self._options)
        if self._on_state is not None:
            self._connection.on_state = self._on_state
        self._running = asyncio.create_task(self._connection.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connection. Iterators end, and unanswered requests fail with `ClientClosed`."""
        running, self._running = self._running, None
        if running is None:
            return
        self._open.end(ClientClosed("The client was closed"))
        running.cancel()
        for stream, task in self._handlers.values():
            await _end_handler(stream, task)
        await asyncio.wait([running])

    @property
    def _open(self) -> Connection:
        if self._connection is None:
            raise ClientClosed("The client is not open: use `async with connect(…) as client`")
        return self._connection

    @property
    def _session(self) -> Session:
        connection = self._open
        if connection.error is not None:
            raise connection.error
        return connection.session

    # --- The connection ----------------------------------------------------------------------------------------

    @property
    def state(self) -> ConnectionState:
        """The state of the connection: connecting, live, stale, offline, draining or closed."""
        return self._open.state

    @property
    def last_error(self) -> Exception | None:
        """Why the last connection ended, or the last attempt failed; None at first."""
        return self._open.last_error

    async def wait_live(self) -> None:
        """Return as soon as every event is delivered as it happens.

        Raises:
            ClientClosed: if the client is closed.
            AuthenticationError: if the server does not accept its token.
        """
        connection = self._open
        while connection.state is not ConnectionState.LIVE:
            if connection.error is not None:
                raise connection.error
            await connection.changes.wait()

    def probe(self) -> None:
        """Find out at once whether the connection works, for example after the network changed."""
        self._open.probe()

    @property
    def position(self) -> Position | None:
        """The position up to which every event of `client.events` was handled; None before the first connection.

        An event counts as handled when its iterator is asked for the next one. Store the position after that, and
        give it back as `resume_from` of the same channels.
        """
        if self._connection is not None:
            self._position = self._connection.session.position or self._position
        return self._position

    # --- Events ------------------------------------------------------------------------------------------------

    def events(self, channel: str, *, resume_from: Position | str | None = None) -> EventStream:
        """Return an iterator of the events of a channel: all from now on, or all after `resume_from`.

        Without a position, a few events from just before this call may be among them, with `replayed`.

        Args:
            channel: `global`, `summary`, or `workflow:`, `pool:` or `worker:` and an id.
            resume_from: A stored `client.position`. Without it, that of `connect` for the first iterator of a channel.
        """
        session = self._session
        given = Position.parse(resume_from) if isinstance(resume_from, str) else resume_from
        stored = None if channel in self._resumed else self._resume_from
        self._resumed.add(channel)
        start = given or stored or self._open.recent_head
        # The queue refers to nothing of its iterator, so that an abandoned iterator is closed.
        queue = EventQueue(
            self._options,
            seq=None if start is None else start.seq,
            epoch="" if start is None else start.epoch,
            on_full=lambda _: session.unsubscribe_unused(subscription),
            on_room=lambda _: session.subscribe(subscription),
        )
        subscription = session.attach(channel, queue)
        return EventStream(channel, queue, session.detach)

    def stream(
        self, workflow_id: str, stage_name: str, name: str, *, offset: int = 0, attempt: int | None = None
    ) -> ChunkStream:
        """Return an iterator of a stream of chunks that a stage writes, or has written.

        Args:
            workflow_id: The run.
            stage_name: The stage.
            name: The name of the stream.
            offset: Where to begin, in bytes; the `end` of the last chunk that the caller has.
            attempt: The attempt of that chunk. If another one has begun, the stream begins again at 0.
        """
        chunks, channel = self._session.chunks, f"stream:{workflow_id}/{stage_name}/{name}"
        queue = ChunkQueue(self._options, offset=offset, attempt=attempt, on_room=partial(chunks.subscribe, channel))
        chunks.attach(channel, queue)
        return ChunkStream(channel, queue, chunks.detach)

    async def subscribe_to_channel(self, channel: str, handler: Handler | None = None) -> EventStream:
        """Subscribe to a channel, and return its iterator once the server has confirmed.

        Args:
            channel: The channel.
            handler: Called with each item, one after the other and never at the same time, in a separate task. It
                may be a coroutine function, and may use the client. An exception is logged, and the next item follows.

        Raises:
            RequestFailed: if the server rejects the channel.
            ConnectionLost: if it does not confirm within `Options.request_timeout_seconds`.
        """
        stream = self.events(channel)
        try:
            async with asyncio.timeout(self._options.request_timeout_seconds):
                await stream.wait_open()
        except TimeoutError:
            stream.close()
            is_sent = self._session.welcome is not None
            raise ConnectionLost("No answer to subscribe in time", maybe_done=is_sent) from None
        if handler is not None:
            await self.unsubscribe_from_channel(channel)
            self._handlers[channel] = stream, asyncio.create_task(_handle_all(stream, handler))
        return stream

    async def unsubscribe_from_channel(self, channel: str) -> None:
        """End the handler of a channel. It is cancelled if it runs, unless it has called this itself."""
        if (handler := self._handlers.pop(channel, None)) is not None:
            await _end_handler(*handler)

    # --- States ------------------------------------------------------------------------------------------------

    def follow(self, workflow_id: str) -> StateStream[LiveRun]:
        """Return an iterator of a run: its state each time it changes, or becomes old or live again."""
        return self._state_table.open(f"workflow:{workflow_id}")

    def pool(self, pool_id: str) -> StateStream[LivePool]:
        """Return an iterator of a pool with its workers."""
        return self._state_table.open(f"pool:{pool_id}")

    def worker(self, worker_id: str) -> StateStream[LiveWorker]:
        """Return an iterator of a worker."""
        return self._state_table.open(f"worker:{worker_id}")

    def overview(self) -> StateStream[LiveOverview]:
        """Return an iterator of the unfinished runs and the pools, without their stages and workers."""
        return self._state_table.open("summary")

    def pools(self) -> StateStream[LiveOverview]:
        """Return the same iterator as `overview`, for changes of the pools only."""
        return self._state_table.open("summary", select=lambda state: state.pools)  # type: ignore[union-attr]

    @property
    def _state_table(self) -> StateTable:
        if self._open.error is not None:
            raise self._open.error
        assert self._table is not None  # It is made together with the connection.
        return self._table


async def _end_handler(stream: EventStream, task: asyncio.Task[None]) -> None:
    stream.close()
    if task is not asyncio.current_task():
        task.cancel()
        await asyncio.wait([task])


async def _handle_all(stream: EventStream, handler: Handler) -> None:
    async with stream:
        try:
            async for item in stream:
                try:
                    result = handler(item)
                    if inspect.isawaitable(result):
                        await result
                except Exception:
                    logger.exception("The handler of %s failed; it continues with the next event", stream.channel)
        except ClientError:
            logger.exception("The subscription of %s ended; its handler receives no more events", stream.channel)
