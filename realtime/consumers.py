"""The WebSocket consumer: decodes, rate-limits and answers the messages of one connection, and sends it events.

It is a Django Channels consumer with its own `__call__`. The stock one adds a layer channel to every connection and a
thread switch to every message. Here the relay has one layer channel for all connections, and only queries use a thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from channels.consumer import AsyncConsumer
from django.conf import settings

from orchestration.log_throttle import LogThrottle
from realtime.auth.identity import Identity
from realtime.broadcast.relay import Relay
from realtime.connection.address_quota import quota_owner
from realtime.connection.asgi_transport import AsgiTransport, Send
from realtime.connection.authentication import identity_without_credentials
from realtime.connection.client_address import client_address_of, peer_address
from realtime.connection.dispatcher import RequestDispatcher
from realtime.connection.origin import is_handshake_allowed
from realtime.connection.rate_limit import RateLimit, Verdict
from realtime.connection.registry import TooManyConnections, connection_registry
from realtime.connection.replay_budget import ReplayBudget
from realtime.connection.writer import ConnectionWriter
from realtime.database import log_failure
from realtime.health.report import report_status
from realtime.limits import Limits
from realtime.protocol.decoder import decode
from realtime.protocol.errors import CloseCode, ErrorCode, RequestError
from realtime.protocol.frames import Frames
from realtime.protocol.messages import encode_error, encode_pong, new_id
from realtime.protocol.requests import Request, Subscribe
from realtime.protocol.server_info import ClientLimits, ServerStatusData
from realtime.protocol.session import SessionPosition, encode_session_created, encode_session_draining
from realtime.queries.replay_reads import ReplayReads
from realtime.queries.status import StatusQueries
from realtime.runtime import ensure_relay, replay_reads, status_queries

logger = logging.getLogger(__name__)
_quota_reached = LogThrottle(logger)

_REJECTION_PAUSE_SECONDS = 0.25
"""How long reading pauses after a message was rejected by the rate limit."""

_FURTHER_COST_OF_REQUEST = 1
"""What a request costs more than a ping, in pings. It has a task, and often a part of a query that many share: 210 us
of processor time, on a machine where a ping took 110 us."""

_FURTHER_COST_OF_JOINING = 2
"""The same for a plain `subscribe`: it often joins a group in Redis, and leaves it at the end of the connection."""

_FURTHER_COST_OF_READING = 4
"""The same for a `subscribe` that reads the log or a snapshot: it has its own queries in a thread."""

_CAUGHT_UP_PART = 16
"""A replay continues when less than `max_send_queue_bytes` divided by this is queued."""

Receive = Callable[[], Awaitable[Mapping[str, Any]]]


class OrchestrationConsumer(AsyncConsumer):
    """Serves one WebSocket; implements `realtime.connection.registry.Connection`."""

    identity: Identity
    relay: Relay
    statuses: StatusQueries
    replay_reads: ReplayReads
    replay_budget: ReplayBudget

    def __init__(self) -> None:
        self.id = new_id()
        self.limits: Limits = settings.MAHAVISHNU_LIMITS
        self.channels: set[str] = set()

    def __str__(self) -> str:
        return f"connection {self.id} from {self._peer}"

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        self._peer = peer_address(scope.get("client"))
        address = client_address_of(scope)
        self._quota_owner = quota_owner(address)
        self.identity = identity_without_credentials(address)
        if not is_handshake_allowed(scope):
            await send({"type": "websocket.close"})
            return
        self._dispatcher = RequestDispatcher(self)
        self._writer = ConnectionWriter(
            self.limits,
            fallback=partial(AsgiTransport, send),
            on_slow=self._close_slow,
            on_disconnected=self._dispatcher.cancel,
        )
        await send({"type": "websocket.accept", "writer": self._writer})
        try:
            if await self._open():
                await self._serve(receive)
            else:
                await _wait_for_disconnect(receive)
        finally:
            await self._disconnect()

    # --- Opening and disconnecting -------------------------------------------------------------------------------

    async def _open(self) -> bool:
        """Register the connection and send `session.created`; close it and return False if that is not possible."""
        try:
            connection_registry.register(self, address=self._quota_owner)
        except TooManyConnections as error:
            if error.address is not None:
                _quota_reached.log(
                    "Closing %s: %s has %d connections (MAHAVISHNU_MAX_CONNECTIONS_PER_ADDRESS)",
                    self,
                    error.address,
                    error.limit,
                )
            self._close(CloseCode.TRY_LATER, ErrorCode.TOO_MANY_CONNECTIONS, str(error))
            return False
        try:
            self.relay, self.statuses, self.replay_reads = await ensure_relay(), status_queries(), replay_reads()
        except Exception as error:
            # No connection can be served without the database, so every database error ends here.
            log_failure(logger, f"Closing {self}: the relay could not start", error)
            self.on_server_error()
            return False
        self.replay_budget = ReplayBudget(self.limits)
        position = self.relay.position
        assert position is not None, "a running relay has a position"
        limits = ClientLimits.of(self.limits)
        self._send(encode_session_created(self.id, epoch=position.epoch, seq=position.seq, limits=limits))
        return True

    async def _disconnect(self) -> None:
        connection_registry.unregister(self)
        for channel in self.channels:
            self.relay.leave(channel, self)
        if self.channels:
            self.relay.position_notices.remove(self)
        self.channels.clear()
        await self._dispatcher.stop()
        await self._writer.stop()

    # --- From the client -----------------------------------------------------------------------------------------

    async def _serve(self, receive: Receive) -> None:
        rate = RateLimit(self.limits, now=asyncio.get_running_loop().time())
        while (message := await receive())["type"] != "websocket.disconnect":
            if self._writer.is_disconnected:
                continue  # No client reads the responses.
            verdict = rate.take(now=asyncio.get_running_loop().time())
            if verdict is Verdict.ALLOWED:
                await self._receive(message)
            elif verdict is Verdict.REJECTED:
                self._reject(rate.retry_after_ms)
            else:
                self._close(
                    CloseCode.POLICY,
                    ErrorCode.RATE_LIMIT_EXCEEDED,
                    f"{self._rate_limit_exceeded()} for more than {self.limits.rate_limit_grace_seconds:g} s",
                    retry_after_ms=rate.retry_after_ms,
                )
                await _wait_for_disconnect(receive)
                return

    async def _receive(self, message: Mapping[str, Any]) -> None:
        try:
            incoming = decode(self._text_of(message))
        except RequestError as error:
            self._send(encode_error(error))
            if error.code is ErrorCode.MESSAGE_TOO_BIG:
                self._end(CloseCode.TOO_BIG, error.code)
            return
        if incoming.request is None:
            self._send(encode_pong(incoming.correlation_id, position=self._position()))
            return
        self._writer.charge(_further_cost(incoming.request))
        self._dispatcher.dispatch(incoming, incoming.request)
        if self._dispatcher.is_full:
            # During this wait, the server stops reading when its receive queue is full. Before, pings are answered.
            await self._dispatcher.wait_for_any()

    def _text_of(self, message: Mapping[str, Any]) -> str:
        text: str | None = message.get("text")
        if text is None:
            raise RequestError(ErrorCode.INVALID_MESSAGE, "Binary messages are not supported; send JSON as text")
        # Under daphne, `realtime.daphne_server.inbound` enforces the same limit earlier.
        size_bytes = len(text) if text.isascii() else len(text.encode())
        if size_bytes > self.limits.max_message_bytes:
            raise RequestError(
                ErrorCode.MESSAGE_TOO_BIG,
                f"Message of {size_bytes} bytes exceeds the limit of {self.limits.max_message_bytes} bytes",
            )
        return text

    def _reject(self, retry_after_ms: int) -> None:
        """Reject a message that exceeds the rate limit, and pause reading."""
        self._send(
            encode_error(
                RequestError(
                    ErrorCode.RATE_LIMIT_EXCEEDED,
                    f"{self._rate_limit_exceeded()}; message discarded",
                    retry_after_ms=retry_after_ms,
                )
            )
        )
        self._writer.pause_reading()
        asyncio.get_running_loop().call_later(_REJECTION_PAUSE_SECONDS, self._writer.resume_reading)

    def _rate_limit_exceeded(self) -> str:
        per_second, burst = self.limits.max_messages_per_second, self.limits.max_message_burst
        return f"Rate limit exceeded ({per_second:g} messages/s, burst {burst})"

    async def server_status(self) -> ServerStatusData:
        return await report_status()

    # --- To the client -------------------------------------------------------------------------------------------

    def write(self, frames: Frames) -> None:
        self._writer.write(frames)

    def _send(self, message: bytes) -> None:
        self._writer.write(Frames([message]))

    def _position(self) -> SessionPosition | None:
        """Return a position up to which the client was sent every event of its channels; None if there is none now."""
        if not self.channels or self._dispatcher.is_subscribing:
            return None
        position = self.relay.position_notices.settled_position()
        return SessionPosition(seq=position.seq, epoch=position.epoch)

    async def caught_up(self) -> None:
        await self._writer.drained(below_bytes=self.limits.max_send_queue_bytes // _CAUGHT_UP_PART)

    def on_server_error(self) -> None:
        self._close(CloseCode.SERVER_ERROR, ErrorCode.SERVER_ERROR, "Internal server error")

    def on_revoked(self) -> None:
        self._close(CloseCode.POLICY, ErrorCode.AUTH_FAILED, "The token is invalid or expired")

    def on_log_reset(self) -> None:
        self._close(
            CloseCode.RESTARTING,
            ErrorCode.EVENTS_TRIMMED,
            "The event log was replaced or pruned; reconnect and subscribe with `since`",
        )

    def on_server_draining(self, *, retry_after_ms: int) -> None:
        final_message = Frames([encode_session_draining(retry_after_ms=retry_after_ms)])
        self._end(CloseCode.RESTARTING, "DRAINING", final_message)

    def _close_slow(self, reason: str) -> None:
        logger.warning("Closing %s: slow consumer (%s), subscribed to %d channels", self, reason, len(self.channels))
        self._close(
            CloseCode.POLICY,
            ErrorCode.SLOW_CONSUMER,
            f"Client reads too slowly ({reason}); reconnect and subscribe with `since`",
        )

    def _close(
        self,
        close_code: int,
        error_code: ErrorCode,
        error_message: str,
        *,
        retry_after_ms: int | None = None,
    ) -> None:
        error = RequestError(error_code, error_message, retry_after_ms=retry_after_ms)
        self._end(close_code, error_code, Frames([encode_error(error)]))

    def _end(self, close_code: int, reason: str, final_message: Frames | None = None) -> None:
        """Close the connection, and cancel its requests: their answers would no longer be sent."""
        self._writer.close(close_code, reason, final_message=final_message)
        self._dispatcher.cancel()


def _further_cost(request: Request) -> int:
    if isinstance(request, Subscribe):
        is_plain = request.since is None and not request.snapshot
        return _FURTHER_COST_OF_JOINING if is_plain else _FURTHER_COST_OF_READING
    return _FURTHER_COST_OF_REQUEST


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass
