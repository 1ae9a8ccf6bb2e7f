"""The asyncio part: keeps one WebSocket open, passes its messages to the session, and notices when it is dead."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import monotonic
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed, WebSocketException

from mahavishnu_client.authentication import Authentication
from mahavishnu_client.backoff import Backoff
from mahavishnu_client.callbacks import Callbacks
from mahavishnu_client.connection_state import ConnectionState
from mahavishnu_client.errors import AuthenticationError, ClientError, ProtocolError
from mahavishnu_client.events import Position
from mahavishnu_client.handshake import open_websocket, retry_after_ms, shown
from mahavishnu_client.options import Options
from mahavishnu_client.pace import Pace
from mahavishnu_client.protocol import PING_AFTER_SECONDS, SessionLimits
from mahavishnu_client.session import Session
from mahavishnu_client.sinks import Waiters
from mahavishnu_client.tokens import TokenSource

logger = logging.getLogger(__name__)

_TICK_SECONDS = 1.0
"""How often to look at the clocks. A shorter silence than this is looked at more often."""

_HEAD_VALID_SECONDS = 30.0
"""A position older than this is no start for events "from now on": too many would be replayed."""

_INVALID_MESSAGE = 1007


class Connection:
    """Connects again and again, until it is stopped.

    Args:
        url: The WebSocket URL of the server.
        options: Times and bounds.
        connect_options: Further arguments for `websockets.connect`, such as `additional_headers` and `ssl`.
        token: The token, or none.

    Attributes:
        session: What outlives each WebSocket.
        state: The state of the client.
        changes: Wakes those who wait for another state.
        last_error: Why the last connection or attempt ended; None at first.
        error: Why no connection follows; None while the client is open.
    """

    def __init__(self, url: str, options: Options, connect_options: dict[str, Any], token: TokenSource) -> None:
        self.state = ConnectionState.CONNECTING
        self.changes = Waiters()
        self.last_error: Exception | None = None
        self.error: ClientError | None = None
        self.on_state: Callable[[ConnectionState], None] = lambda state: None
        self._url = url
        self._options = options
        self._connect_options = connect_options
        self._loop = asyncio.get_running_loop()
        self._outgoing = asyncio.Event()
        self._authentication = Authentication(token, options)
        callbacks = Callbacks(
            later=self._loop.call_later,
            on_outgoing=self._outgoing.set,
            on_welcome=self._on_welcome,
            on_live=lambda: self._set_state(ConnectionState.LIVE),
            on_draining=lambda: self._set_state(ConnectionState.DRAINING),
            on_expiring=lambda: self._authentication.on_expiring(self.session.requests),
        )
        self.session = Session(callbacks)
        self._backoff = Backoff(options)
        self._wake = asyncio.Event()
        self._websocket: ClientConnection | None = None
        self._received_at = monotonic()
        self._ping_sent_at: float | None = None
        self._pong_within_seconds = options.pong_within_seconds
        self._ticked_at = monotonic()
        self._wall_offset = options.wall_clock() - self._ticked_at
        self._timer: asyncio.TimerHandle | None = None

    # --- For the client ----------------------------------------------------------------------------------------

    @property
    def received_at(self) -> float:
        """When the last message came, in seconds of the machine's clock."""
        return self._options.wall_clock() - (monotonic() - self._received_at)

    @property
    def recent_head(self) -> Position | None:
        """The newest position of the log that is known, unless too much may have happened since."""
        is_recent = monotonic() - self._received_at <= _HEAD_VALID_SECONDS
        return self.session.head if is_recent else None

    async def run(self) -> None:
        """Connect, and connect again after each end, until it is cancelled or the server refuses the token."""
        self._tick()
        pause_seconds = 0.0
        try:
            while self.error is None:
                await self._pause(pause_seconds)
                pause_seconds = await self._connect_once()
        except Exception as error:
            # Not of the network: an argument for `websockets.connect` that is wrong, or a defect.
            logger.exception("The client of %s failed; it ends", shown(self._url))
            self.last_error = error
            self.end(ClientError(f"The client failed: {error!r}"))
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def end(self, error: ClientError) -> None:
        """End every iterator, request and wait with an error. No connection follows."""
        if self.error is None:
            self.error = error
            self.session.close(error)
            self._set_state(ConnectionState.CLOSED)

    def probe(self) -> None:
        """Find out at once whether the connection works. If there is none, connect at once."""
        self._wake.set()
        if self.session.welcome is not None and self._websocket is not None:
            self._ping(within_seconds=self._options.probe_within_seconds)

    # --- One connection ----------------------------------------------------------------------------------------

    async def _pause(self, seconds: float) -> None:
        self._wake.clear()
        if seconds > 0:
            try:
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _connect_once(self) -> float:
        """Open a connection and serve it to its end. Return the pause before the next one."""
        options = self._options
        began_at = monotonic()
        code: int | None = None
        has_new_try = False
        try:
            token = await self._authentication.token()
            self._websocket = websocket = await open_websocket(self._url, options, self._connect_options, token)
            began_at = monotonic()
            await self._serve(websocket)
        except ConnectionClosed as error:
            self.last_error = error
            code = error.rcvd.code if error.rcvd is not None else 1006
        except AuthenticationError as error:
            self.last_error = error
            has_new_try = self._authentication.on_refused()
            if not has_new_try:
                self.end(error)
        except ClientError as error:
            self.last_error = error
            if isinstance(error, ProtocolError):
                code = _INVALID_MESSAGE
            logger.warning("Reconnecting to %s: %s", shown(self._url), error)
        except (OSError, WebSocketException, TimeoutError) as error:
            self.last_error = error
            self.session.retry_after_ms = retry_after_ms(error)
        finally:
            self._websocket = None
            self._ping_sent_at = None
            slot_ms = self.session.retry_after_ms
            self._authentication.on_disconnected()
            self.session.on_disconnected(self.received_at)
        if self.error is not None:
            return 0.0
        if code is not None and monotonic() - began_at >= options.stable_after_seconds:
            self._backoff.reset()
        if not (self.state is ConnectionState.STALE and code is not None) and not (
            self.state is ConnectionState.DRAINING and slot_ms is not None
        ):
            self._set_state(ConnectionState.OFFLINE)
        self.session.retry_after_ms = None
        return 0.0 if has_new_try else self._backoff.pause_seconds(close_code=code, retry_after_ms=slot_ms)

    def _on_welcome(self) -> None:
        self._authentication.on_accepted()
        self._set_state(ConnectionState.CONNECTING)

    async def _serve(self, websocket: ClientConnection) -> None:
        session = self.session
        session.on_connected()
        self._note_message()
        writer = asyncio.create_task(self._write(websocket))
        try:
            receive, recv, now = session.receive, websocket.recv, monotonic
            while True:
                data = await recv(decode=False)
                self._received_at = now()
                receive(data)
        finally:
            writer.cancel()
            websocket.transport.abort()

    async def _write(self, websocket: ClientConnection) -> None:
        """Send what the session has to send, at the pace that the server allows."""
        pace: Pace | None = None
        try:
            while True:
                await self._outgoing.wait()
                self._outgoing.clear()
                if pace is None:
                    limits = self.session.welcome.limits if self.session.welcome else SessionLimits()
                    pace = Pace(limits, now=monotonic())
                while self.session.requests.has_outgoing:
                    if pause_seconds := pace.pause_seconds(now=monotonic()):
                        await asyncio.sleep(pause_seconds)
                    if (text := self.session.requests.take_message()) is not None:
                        await websocket.send(text, text=True)
        except ConnectionClosed:
            pass  # The reading part has the reason.

    # --- Liveness ----------------------------------------------------------------------------------------------

    def _note_message(self) -> None:
        self._received_at = monotonic()

    def _tick(self) -> None:
        """Ping after silence, end a connection that does not answer, and notice that the machine has slept."""
        now = monotonic()
        due = self._due_seconds()
        is_late = now - self._ticked_at > 2 * due + _TICK_SECONDS
        self._ticked_at = now
        wall_offset = self._options.wall_clock() - now
        has_jumped = abs(wall_offset - self._wall_offset) > self._options.clock_jump_seconds
        self._wall_offset = wall_offset
        if has_jumped:
            self.probe()
        elif self.session.welcome is not None or self._websocket is not None:
            self._check(now, is_late=is_late)
        self._timer = self._loop.call_later(self._due_seconds(), self._tick)

    def _check(self, now: float, *, is_late: bool) -> None:
        if self._ping_sent_at is not None and self._received_at >= self._ping_sent_at:
            self._ping_sent_at = None
        if self._ping_sent_at is None:
            if now - self._received_at >= self._ping_after_seconds:
                self._ping(within_seconds=self._options.pong_within_seconds)
        elif now - self._ping_sent_at >= self._pong_within_seconds:
            if is_late:
                # This program was busy or suspended: what it has not read yet may contain the answer.
                self._ping_sent_at = now
            elif self._websocket is not None:
                self._set_state(ConnectionState.STALE)
                self._websocket.transport.abort()

    def _ping(self, *, within_seconds: float) -> None:
        now, sent_at = monotonic(), self._ping_sent_at
        is_waiting = sent_at is not None and self._received_at < sent_at
        if is_waiting and sent_at + self._pong_within_seconds <= now + within_seconds:  # type: ignore[operator]
            return  # An answer is due earlier. Otherwise frequent probes would put it off for ever.
        self._ping_sent_at = now
        self._pong_within_seconds = within_seconds
        if self.session.welcome is not None:
            self.session.requests.send_ping()

    @property
    def _ping_after_seconds(self) -> float:
        if self._options.ping_after_seconds is not None:
            return self._options.ping_after_seconds
        welcome = self.session.welcome
        return welcome.ping_after_ms / 1000 if welcome is not None else PING_AFTER_SECONDS

    def _due_seconds(self) -> float:
        """Return the pause before the next look at the clocks."""
        shortest = min(self._ping_after_seconds, self._options.pong_within_seconds, self._options.probe_within_seconds)
        return min(_TICK_SECONDS, max(shortest / 8, 0.01))

    def _set_state(self, state: ConnectionState) -> None:
        if state is not self.state:
            self.state = state
            try:
                self.on_state(state)
            except Exception:
                logger.exception("on_state failed; the client continues")
            self.changes.wake()
            self.session.wake()
