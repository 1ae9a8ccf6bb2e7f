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

from realtime.auth.identity import Identity
from realtime.broadcast.relay import Relay
from realtime.connection.address_quota import quota_owner
from realtime.connection.asgi_transport import AsgiTransport, Send
from realtime.connection.authentication import Authentication, Disconnected
from realtime.connection.client_address import client_address_of, peer_address
from realtime.connection.credentials import credentials_of
from realtime.connection.dispatcher import RequestDispatcher
from realtime.connection.message_text import text_of
from realtime.connection.origin import is_handshake_allowed
from realtime.connection.rate_limit import RateLimit, Verdict
from realtime.connection.refusals import refusal_of, refuse
from realtime.connection.registry import TooManyConnections, connection_registry
from realtime.connection.replay_budget import ReplayBudget
from realtime.connection.request_cost import further_cost
from realtime.connection.stream_subscriptions import StreamSubscriptions
from realtime.connection.writer import ConnectionWriter
from realtime.database import log_failure
from realtime.health.report import report_status
from realtime.limits import Limits
from realtime.protocol.decoder import decode
from realtime.protocol.errors import CloseCode, ErrorCode, RequestError
from realtime.protocol.frames import Frames
from realtime.protocol.messages import encode_error, encode_pong, new_id
from realtime.protocol.requests import TokenRequest
from realtime.protocol.server_info import ClientLimits, ServerStatusData
from realtime.protocol.session import SessionPosition, encode_session_created, encode_session_draining
from realtime.queries.replay_reads import ReplayReads
from realtime.queries.status import StatusQueries
from realtime.runtime import ensure_relay, replay_reads, status_queries, stream_hub

logger = logging.getLogger(__name__)

_REJECTION_PAUSE_SECONDS = 0.25
"""How long reading pauses after a message was rejected by the rate limit."""

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
        self.streams = StreamSubscriptions(stream_hub(), on_failure=self.on_server_error)

    def __str__(self) -> str:
        return f"connection {self.id} from {self._peer}"

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        self._peer = peer_address(scope.get("client"))
        address = client_address_of(scope)
        self._quota_owner = quota_owner(address)
        if not is_handshake_allowed(scope):
            await send({"type": "websocket.close"})
            return
        if (refusal := refusal_of(scope, address)) is not None:
            await refuse(scope, send, refusal)
            return
        credentials = credentials_of(scope)
        self._authentication = Authentication(self, credentials, address)
        self._dispatcher = RequestDispatcher(self)
        self._writer = ConnectionWriter(
            self.limits,
            fallback=partial(AsgiTransport, send),
            on_slow=self._close_slow,
            on_disconnected=self._dispatcher.cancel,
        )
        subprotocol = credentials.subprotocol
        await send({"type": "websocket.accept", "writer": self._writer, "subprotocol": subprotocol})
        del scope, credentials
        try:
            if await self._admit(receive) and await self._open():
                await self._serve(receive)
            else:
                await _wait_for_disconnect(receive)
        except Disconnected:
            pass
        finally:
            await self._disconnect()

    # --- Opening and disconnecting -------------------------------------------------------------------------------

    async def _admit(self, receive: Receive) -> bool:
        """Authenticate and register the connection; close it and return False if that is not possible."""
        authentication = self._authentication
        try:
            if not authentication.needs_first_message:
                connection_registry.register(self, address=self._quota_owner)
                if await authentication.by_handshake():
                    return True
                connection_registry.unregister(self)
            connection_registry.register_unauthenticated(self, address=authentication.address)
            await authentication.by_first_message(receive, self._writer)
            connection_registry.register(self, address=self._quota_owner)
        except TooManyConnections as error:
            self._close(CloseCode.TRY_LATER, ErrorCode.TOO_MANY_CONNECTIONS, str(error))
        except RequestError as error:
            self.close_unauthenticated(error)
        else:
            return True
        return False

    async def _open(self) -> bool:
        """Send `session.created`; close the connection and return False if that is not possible."""
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
        self._send(
            encode_session_created(
                self.id,
                epoch=position.epoch,
                seq=position.seq,
                limits=ClientLimits.of(self.limits),
                user_id=self.identity.user_id,
                expires_at=self.identity.expires_at,
            )
        )
        self.watch_expiry()
        return True

    async def _disconnect(self) -> None:
        connection_registry.unregister(self)
        if self.channels:
            self.relay.position_notices.remove(self)
        for channel in self.channels:
            self.relay.leave(channel, self)
        self.channels.clear()
        self._authentication.stop()
        await self._dispatcher.stop()
        await self.streams.stop()
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
                self._reject(rate.error(verdict))
            else:
                self._close_with(CloseCode.POLICY, rate.error(verdict))
                await _wait_for_disconnect(receive)
                return

    async def _receive(self, message: Mapping[str, Any]) -> None:
        try:
            incoming = decode(text_of(message, max_bytes=self.limits.max_message_bytes))
        except RequestError as error:
            self._send(encode_error(error))
            if error.code is ErrorCode.MESSAGE_TOO_BIG:
                self._end(CloseCode.TOO_BIG, error.code)
            return
        if incoming.request is None:
            self._send(encode_pong(incoming.correlation_id, position=self._position()))
            return
        self._writer.charge(further_cost(incoming.request))
        if isinstance(incoming.request, TokenRequest):
            await self._dispatcher.finish(incoming, incoming.request)
            return
        self._dispatcher.dispatch(incoming, incoming.request)
        if self._dispatcher.is_full:
            # During this wait, the server stops reading when its receive queue is full. Before, pings are answered.
            await self._dispatcher.wait_for_any()

    def _reject(self, error: RequestError) -> None:
        """Reject a message that exceeds the rate limit, and pause reading."""
        self._send(encode_error(error))
        self._writer.pause_reading()
        asyncio.get_running_loop().call_later(_REJECTION_PAUSE_SECONDS, self._writer.resume_reading)

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

    # --- Credentials ---------------------------------------------------------------------------------------------

    async def authenticate(self, token: str) -> Identity:
        return await self._authentication.authenticate(token)

    async def refresh(self, token: str) -> Identity:
        return await self._authentication.refresh(token)

    def watch_expiry(self) -> None:
        self._authentication.watch_expiry()

    def close_unauthenticated(self, error: RequestError) -> None:
        """Close with an error. What is queued is dropped: the client may no longer read it."""
        codes = {ErrorCode.MESSAGE_TOO_BIG: CloseCode.TOO_BIG, ErrorCode.SERVER_ERROR: CloseCode.SERVER_ERROR}
        code = codes.get(error.code, CloseCode.POLICY)
        self._writer.close(code, error.code, final_message=Frames([encode_error(error)]), discards_queued=True)
        self._dispatcher.cancel()

    def on_expired(self) -> None:
        self.close_unauthenticated(self._authentication.ended("expired"))

    def on_revoked(self) -> None:
        self.close_unauthenticated(self._authentication.ended("revoked"))

    # --- The end -------------------------------------------------------------------------------------------------

    def on_too_many_forbidden(self) -> None:
        limit = self.limits.max_forbidden_per_minute
        self._close(CloseCode.POLICY, ErrorCode.FORBIDDEN, f"{limit} requests without permission in a minute")

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

    def _close(self, close_code: int, error_code: ErrorCode, error_message: str) -> None:
        self._close_with(close_code, RequestError(error_code, error_message))

    def _close_with(self, close_code: int, error: RequestError) -> None:
        self._end(close_code, error.code, Frames([encode_error(error)]))

    def _end(self, close_code: int, reason: str, final_message: Frames | None = None) -> None:
        """Close the connection, and cancel its requests: their answers would no longer be sent."""
        self._writer.close(close_code, reason, final_message=final_message)
        self._dispatcher.cancel()


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass
