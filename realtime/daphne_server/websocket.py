"""Our WebSocket protocol for daphne: its own limits on what comes in, and an writer that is let at the socket.

Where daphne or autobahn would end a connection without a word, a client is told why: an error message, a close frame
with a code and a reason, and time to read them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory
from autobahn.websocket.types import ConnectionDeny
from daphne.ws_protocol import WebSocketProtocol

from realtime.connection.rate_limit import RateLimit, Verdict
from realtime.connection.registry import connection_registry
from realtime.connection.writer import ConnectionWriter
from realtime.daphne_server.transport import DaphneTransport, close_reason
from realtime.limits import Limits
from realtime.protocol.errors import CloseCode, ErrorCode, RequestError
from realtime.protocol.messages import encode_error

logger = logging.getLogger(__name__)

_READ_BYTES = 16 * 1024
"""How much is read at once: what is read holds many small frames, and they are taken apart before anyone can object."""

_MAX_PONG_BYTES = _READ_BYTES
"""A client that has as much unsent to it is answered only its last ping (RFC 6455 section 5.5.3)."""

_PAUSE_AFTER_TOO_MANY_FRAMES_SECONDS = 0.25
_LOOK_INTO_INBOX_SECONDS = 0.01

_FIRST_CONTROL_OPCODE = 8
"""Opcodes from here on are of control frames (RFC 6455 section 5.2)."""


class MahavishnuProtocol(WebSocketProtocol):
    """One WebSocket.

    Attributes:
        direct: Whether frames may go straight to the socket.
        attaches: Whether the writer of a connection is let at its transport at all.
    """

    limits: Limits
    direct: bool
    attaches: bool

    last_ping: float

    @classmethod
    def take_options(cls, factory: WebSocketServerFactory) -> None:
        """Take autobahn's options for all connections to come, and set those aside that are daphne's command line.

        Autobahn copies them to each connection, and formats them for a log that nobody reads: almost half of what a
        handshake costs.
        """
        options = {name: getattr(factory, name) for name in cls.CONFIG_ATTRS} | {
            "maxMessagePayloadSize": cls.limits.max_message_bytes,
            "maxFramePayloadSize": 0,
            "openHandshakeTimeout": cls.limits.open_timeout_seconds,
            # Its timers are up to a second early: see `limit_closing`.
            "closeHandshakeTimeout": 0,
        }
        for name, value in options.items():
            setattr(cls, name, staticmethod(value) if callable(value) else value)
        cls.CONFIG_ATTRS = ()

    def connectionMade(self) -> None:  # noqa: N802
        if self.CONFIG_ATTRS:
            self.take_options(self.factory)
        self.loop = asyncio.get_running_loop()
        self.daphne_transport: DaphneTransport | None = None
        self._pauses = 0
        self._unread_bytes = 0
        self._inbox_is_full = False
        self._frame_rate: RateLimit | None = None
        self._unanswered_ping: bytes | None = None
        self._has_failed = False
        self._bytes_after_close = 0
        self._closing_timer: asyncio.TimerHandle | None = None
        self.transport.bufferSize = _READ_BYTES
        super().connectionMade()

    # --- From the application --------------------------------------------------------------------------------------

    def handle_reply(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "websocket.accept":
            if connection_registry.is_draining:
                self._deny(503, "Service Unavailable")
                return
            super().handle_reply(message)
            writer: ConnectionWriter | None = message.get("writer")
            if writer is not None and self.attaches and self.state == self.STATE_OPEN:
                self.daphne_transport = DaphneTransport(self, writer, direct=self.direct)
                writer.attach(self.daphne_transport)
        elif message["type"] == "websocket.close" and self.state != self.STATE_CONNECTING:
            # Daphne leaves the reason out, and autobahn's `sendClose` refuses the registered codes.
            reason = close_reason(message.get("reason") or "")
            self.sendCloseFrame(code=message.get("code") or 1000, reasonUtf8=reason)
        else:
            super().handle_reply(message)

    def _deny(self, status: int, reason: str) -> None:
        self.handshake_deferred.errback(ConnectionDeny(code=status, reason=reason))
        del self.handshake_deferred

    def handle_exception(self, exception: BaseException) -> None:
        if self.state == self.STATE_OPEN:
            self._say_and_close(CloseCode.SERVER_ERROR, ErrorCode.SERVER_ERROR, "Internal server error", retryable=True)
        elif hasattr(self, "handshake_deferred"):
            self._deny(500, "Internal Server Error")

    def sendMessage(self, payload: bytes, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        if self.state != self.STATE_OPEN:
            return  # The client has gone, and the application is about to hear of it.
        # Autobahn holds what goes out against the same bound, which is for what comes in.
        self.maxMessagePayloadSize = 0
        try:
            super().sendMessage(payload, *args, **kwargs)
        finally:
            self.maxMessagePayloadSize = self.limits.max_message_bytes

    def on_queue_sent(self) -> None:
        """Answer the last of the pings that were not answered while the client did not read."""
        if self._unanswered_ping is not None:
            self.sendPong(self._unanswered_ping)
            self._unanswered_ping = None

    # --- From the client -------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:  # noqa: N802
        # After a failure nothing is looked at any more (RFC 6455 section 7.1.7), but it is read: an end with something
        # unread would be a reset, and the client would lose our last words.
        if self.state == self.STATE_CLOSING:
            self._bytes_after_close += len(data)
            if self._bytes_after_close > self.limits.max_receive_queue_bytes:
                self._stop_looking()
        if not self._has_failed:
            super().dataReceived(data)

    def consumeData(self) -> None:  # noqa: N802
        if self.state not in (self.STATE_OPEN, self.STATE_CLOSING):
            super().consumeData()
            return
        while not self._is_paused() and not self._has_failed and self.processData():
            if self.state == self.STATE_CLOSED:
                break
        if self._has_failed:
            self.data = b""

    def onFrameBegin(self) -> None:  # noqa: N802
        frame = self.current_frame
        if frame.opcode == 0 or frame.opcode >= _FIRST_CONTROL_OPCODE or not frame.fin:
            self._count_frame()
        super().onFrameBegin()

    def _count_frame(self) -> None:
        """Frames that are no message of their own have the rate of messages; over it, reading pauses."""
        now = self.loop.time()
        if self._frame_rate is None:
            self._frame_rate = RateLimit(self.limits, now=now)
        if self._frame_rate.take(now=now) is not Verdict.ALLOWED:
            self.pause_reading()
            self.loop.call_later(_PAUSE_AFTER_TOO_MANY_FRAMES_SECONDS, self.resume_reading)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:  # noqa: N802, N803
        if self.state != self.STATE_OPEN:
            return
        if self.application_queue.empty():
            self._unread_bytes = 0
        self._unread_bytes += len(payload)
        super().onMessage(payload, isBinary)
        if not self._inbox_is_full and (
            self.application_queue.qsize() >= self.limits.max_receive_queue_messages
            or self._unread_bytes >= self.limits.max_receive_queue_bytes
        ):
            self._inbox_is_full = True
            self.pause_reading()
            # Most often the application takes all of it in the next turn of the loop.
            self.loop.call_soon(self._look_into_inbox)

    def _look_into_inbox(self) -> None:
        if self.application_queue.empty() or self.state == self.STATE_CLOSED:
            self._inbox_is_full = False
            self.resume_reading()
        else:
            self.loop.call_later(_LOOK_INTO_INBOX_SECONDS, self._look_into_inbox)

    def onPing(self, payload: bytes) -> None:  # noqa: N802
        if self.daphne_transport is not None and self.daphne_transport.queued_bytes > _MAX_PONG_BYTES:
            self._unanswered_ping = payload
            self.daphne_transport.watch()
        else:
            self.sendPong(payload)

    def pause_reading(self) -> None:
        """Leave what the client sends in the operating system's buffers, until as many calls of `resume_reading`."""
        self._pauses += 1
        if self._is_paused():
            self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Take back one `pause_reading`."""
        self._pauses -= 1
        if not self._pauses:
            self._read_on()

    def _is_paused(self) -> bool:
        """Once we have sent a close frame, its answer is read, whatever the application is busy with."""
        return self._pauses > 0 and self.state == self.STATE_OPEN

    def _read_on(self) -> None:
        if self.state != self.STATE_CLOSED:
            self.consumeData()
        if self.state != self.STATE_CLOSED and not self._is_paused():
            self.transport.resumeProducing()

    # --- The end ---------------------------------------------------------------------------------------------------

    def sendCloseFrame(self, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        super().sendCloseFrame(*args, **kwargs)
        self.limit_closing()
        if self._pauses:
            self.loop.call_soon(self._read_on)

    def limit_closing(self) -> None:
        """Drop the connection if it has not ended in time, whatever is unsent or unanswered then."""
        if self._closing_timer is None:
            self._closing_timer = self.loop.call_later(
                self.limits.close_timeout_seconds, self.transport.abortConnection
            )

    def _fail_connection(self, code: int = CloseCode.SERVER_ERROR, reason: str = "") -> None:
        """What autobahn calls for whatever breaks the protocol or our bounds.

        Its own answer is to drop the TCP connection (`failByDrop`), and the client never learns why.
        """
        if self.state == self.STATE_OPEN:
            if code == CloseCode.TOO_BIG:
                error_code = ErrorCode.MESSAGE_TOO_BIG
                why = (
                    f"Got a message of {self.message_data_total_length} bytes or more: "
                    f"expected at most {self.limits.max_message_bytes} bytes"
                )
            else:
                error_code = ErrorCode.INVALID_MESSAGE
                why = f"Got a frame that RFC 6455 does not allow: {reason}"
            logger.info("Closing the connection from %s: %s", self.client_addr, why)
            self._say_and_close(code, error_code, why, retryable=False)
        self._stop_looking()

    def _stop_looking(self) -> None:
        """Look at nothing more, and end our side: the client sees that after the close frame, and ends its own.

        If it does not, the time for closing runs out.
        """
        if not self._has_failed:
            self.failedByMe = True
            self._has_failed = True
            self.unregisterProducer()
            self.transport.loseWriteConnection()

    def _say_and_close(self, code: int, error_code: ErrorCode, why: str, *, retryable: bool) -> None:
        self.sendMessage(encode_error(RequestError(error_code, why), retryable=retryable))
        self.sendCloseFrame(code=code, reasonUtf8=close_reason(error_code))

    def dropConnection(self, abort: bool = False) -> None:  # noqa: N802
        """End the TCP connection; after close frames from both ends in good order.

        Autobahn aborts it when the client has answered our close frame: a reset, which proxies log as an error.
        """
        super().dropConnection(abort=abort and not self.wasClean)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: N802, N803
        if self._closing_timer is not None:
            self._closing_timer.cancel()
        if self.daphne_transport is not None:
            self.daphne_transport.closed()
            self.daphne_transport = None
        # Without a server, the handshake failed before daphne knew of this connection.
        if hasattr(self, "server"):
            super().onClose(wasClean, code, reason)

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        super().connectionLost(reason)
        # Its result is this object itself.
        del self.is_closed

    # --- Time ------------------------------------------------------------------------------------------------------

    def check_timeouts(self) -> None:
        """Ask a silent client whether it is there. (Daphne's `--websocket_timeout` would also end the lively ones.)"""
        if (
            self.state == self.STATE_OPEN
            and not self._waits_for_somebody()
            and self.autoPingPending is None
            and time.time() - self.last_ping > self.server.ping_interval
        ):
            self._sendAutoPing()
            self.last_ping = time.time()

    def onAutoPingTimeout(self) -> None:  # noqa: N802
        if self._waits_for_somebody():
            # Its answer may be unread by us, or our question behind much else.
            self.autoPingTimeoutCall = None
            self.autoPingPending = None
        else:
            super().onAutoPingTimeout()

    def _waits_for_somebody(self) -> bool:
        return self._is_paused() or (self.daphne_transport is not None and self.daphne_transport.queued_bytes > 0)
