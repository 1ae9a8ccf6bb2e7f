"""One connection: what comes in is decoded, limited and answered; what the relay hands it goes out.

This is Django Channels' consumer with its own `__call__`. The stock one adds a layer channel to every connection and
a hop to a thread to every message; here the relay has one channel for all, and only a query goes to a thread.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from channels.consumer import AsyncConsumer
from django.conf import settings

from realtime.broadcast.relay import Relay
from realtime.connection.dispatcher import RequestDispatcher
from realtime.connection.origin import is_handshake_allowed, peer_address
from realtime.connection.rate_limit import RateLimit, Verdict
from realtime.connection.registry import connection_registry
from realtime.connection.writer import ConnectionWriter
from realtime.database import log_failure
from realtime.limits import Limits
from realtime.protocol.errors import CloseCode, ErrorCode, RequestError
from realtime.protocol.frames import Frames
from realtime.protocol.messages import (
    encode_error,
    encode_pong,
    encode_session_created,
    encode_session_draining,
    new_id,
)
from realtime.protocol.requests import decode
from realtime.queries.status import StatusQueries
from realtime.runtime import running_relay, running_statuses

logger = logging.getLogger(__name__)

_PAUSE_AFTER_REFUSAL_SECONDS = 0.25
"""How long nothing is read from a client that was told it sends too fast."""

_CAUGHT_UP_PART = 4
"""A replay goes on once less than this part of the unsent bytes allowed is waiting."""

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class OrchestrationConsumer(AsyncConsumer):
    """Serves one WebSocket.

    Attributes:
        id: The `connection_id` of the welcome.
        channels: What it is subscribed to.
    """

    relay: Relay
    statuses: StatusQueries

    def __init__(self) -> None:
        self.id = new_id()
        self.limits: Limits = settings.MAHAVISHNU_LIMITS
        self.channels: set[str] = set()

    def __str__(self) -> str:
        return f"connection {self.id} from {self._peer}"

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect
        self._peer = peer_address(scope)
        if not is_handshake_allowed(scope):
            await send({"type": "websocket.close"})
            return
        self._dispatcher = RequestDispatcher(self)
        self._writer = ConnectionWriter(send, self.limits, on_slow=self._close_slow)
        await send({"type": "websocket.accept", "writer": self._writer})
        try:
            if await self._welcome():
                await self._serve(receive)
            else:
                await _until_disconnected(receive)
        finally:
            await self._disconnect()

    # --- The beginning and the end -------------------------------------------------------------------------------

    async def _welcome(self) -> bool:
        if not connection_registry.register(self, maximum=self.limits.max_connections):
            self._close(
                CloseCode.TRY_LATER,
                ErrorCode.TOO_MANY_CONNECTIONS,
                f"This server has {self.limits.max_connections} connections, the most allowed: try again later",
                retryable=True,
            )
            return False
        try:
            self.relay, self.statuses = await running_relay(), running_statuses()
        except Exception as error:
            # Whatever the database raises: the connection is of no use without it.
            log_failure(logger, "The relay could not start", error)
            self.on_server_error()
            return False
        position = self.relay.position
        assert position is not None, "a running relay has read it"
        self._send(encode_session_created(self.id, epoch=position.epoch, seq=position.seq))
        return True

    async def _disconnect(self) -> None:
        connection_registry.unregister(self)
        for channel in self.channels:
            self.relay.leave(channel, self)
        self.channels.clear()
        await self._dispatcher.stop()
        await self._writer.finished()

    # --- From the client -----------------------------------------------------------------------------------------

    async def _serve(self, receive: Receive) -> None:
        rate = RateLimit(self.limits, now=asyncio.get_running_loop().time())
        while (message := await receive())["type"] != "websocket.disconnect":
            verdict = rate.take(now=asyncio.get_running_loop().time())
            if verdict is Verdict.ALLOWED:
                await self._receive(message)
            elif verdict is Verdict.REFUSED:
                self._refuse(rate.retry_after_ms)
            else:
                self._close(
                    CloseCode.POLICY,
                    ErrorCode.RATE_LIMIT_EXCEEDED,
                    f"{self._rate_sentence()} for more than {self.limits.rate_limit_grace_seconds:g} s",
                    retryable=True,
                    retry_after_ms=rate.retry_after_ms,
                )
                await _until_disconnected(receive)
                return

    async def _receive(self, message: Mapping[str, Any]) -> None:
        try:
            incoming = decode(self._text_of(message))
        except RequestError as error:
            self._send(encode_error(error))
            if error.code is ErrorCode.MESSAGE_TOO_BIG:
                self._writer.close(CloseCode.TOO_BIG, error.code)
            return
        if incoming.request is None:
            self._send(encode_pong(incoming.correlation_id))
            return
        self._dispatcher.begin(incoming, incoming.request)
        if self._dispatcher.is_full:
            # The server stops reading once enough is unread; up to there, pings are answered.
            await self._dispatcher.until_one_is_answered()

    def _text_of(self, message: Mapping[str, Any]) -> str:
        text: str | None = message.get("text")
        if text is None:
            raise RequestError(ErrorCode.INVALID_MESSAGE, "Got a binary message: expected a text message with JSON")
        # A server that can be told the bound (see `realtime.daphne_server.install`) has closed the connection before.
        size_bytes = len(text) if text.isascii() else len(text.encode())
        if size_bytes > self.limits.max_message_bytes:
            raise RequestError(
                ErrorCode.MESSAGE_TOO_BIG,
                f"Got a message of {size_bytes} bytes: expected at most {self.limits.max_message_bytes} bytes",
            )
        return text

    def _refuse(self, retry_after_ms: int) -> None:
        """Say that this message was one too many, and read nothing more for a moment."""
        self._send(
            encode_error(
                RequestError(ErrorCode.RATE_LIMIT_EXCEEDED, f"{self._rate_sentence()}: this one was not read"),
                retryable=True,
                retry_after_ms=retry_after_ms,
            )
        )
        self._writer.pause_reading()
        asyncio.get_running_loop().call_later(_PAUSE_AFTER_REFUSAL_SECONDS, self._writer.resume_reading)

    def _rate_sentence(self) -> str:
        return (
            f"More than {self.limits.max_messages_per_second:g} messages a second "
            f"(and {self.limits.max_message_burst} at once)"
        )

    # --- To the client -------------------------------------------------------------------------------------------

    def write(self, frames: Frames) -> None:
        self._writer.write(frames)

    def _send(self, message: bytes) -> None:
        self._writer.write(Frames([message]))

    async def caught_up(self) -> None:
        await self._writer.drained(below_bytes=self.limits.max_send_queue_bytes // _CAUGHT_UP_PART)

    def on_server_error(self) -> None:
        self._close(CloseCode.SERVER_ERROR, ErrorCode.SERVER_ERROR, "Internal server error", retryable=True)

    def on_log_reset(self) -> None:
        self._close(
            CloseCode.RESTARTING,
            ErrorCode.EVENTS_TRIMMED,
            "The event log was replaced or pruned: connect again and subscribe with `since`",
            retryable=True,
        )

    def on_server_draining(self, *, retry_after_ms: int) -> None:
        close_frame = Frames([encode_session_draining(retry_after_ms=retry_after_ms)])
        self._writer.close(CloseCode.RESTARTING, "DRAINING", final_message=close_frame)

    def _close_slow(self, why: str) -> None:
        logger.warning(
            "Closing %s, which reads too slowly: %s. It is subscribed to %d channels",
            self,
            why,
            len(self.channels),
        )
        self._close(
            CloseCode.POLICY,
            ErrorCode.SLOW_CONSUMER,
            f"This connection reads too slowly ({why}): connect again and subscribe with `since`",
            retryable=True,
        )

    def _close(
        self, close_code: int, error_code: ErrorCode, why: str, *, retryable: bool, retry_after_ms: int | None = None
    ) -> None:
        error = encode_error(RequestError(error_code, why), retryable=retryable, retry_after_ms=retry_after_ms)
        self._writer.close(close_code, error_code, final_message=Frames([error]))


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "websocket.disconnect":
        pass
