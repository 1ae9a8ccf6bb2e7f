"""Our WebSocket protocol for daphne: the handshake, messages from the application, and closing.

Daphne and autobahn drop a connection after a failure. This protocol sends the reason first: an error message, then a
close frame with a code and a reason. The client gets time to read them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from autobahn.twisted.websocket import WebSocketServerFactory
from autobahn.websocket.types import ConnectionDeny

from realtime.connection.client_address import peer_address
from realtime.connection.registry import connection_registry
from realtime.connection.writer import ConnectionWriter
from realtime.daphne_server.inbound import InboundProtocol
from realtime.daphne_server.transport import DaphneTransport, close_reason
from realtime.protocol.errors import CloseCode, ErrorCode, RequestError
from realtime.protocol.messages import encode_error

logger = logging.getLogger(__name__)


class MahavishnuProtocol(InboundProtocol):
    """One WebSocket.

    Attributes:
        direct_frames: Whether frames may bypass daphne's send path.
        use_daphne_transport: Whether to attach a `DaphneTransport` to the writer of a connection. Without it, the
            writer sends through ASGI.
    """

    direct_frames: bool
    use_daphne_transport: bool

    @classmethod
    def copy_options(cls, factory: WebSocketServerFactory) -> None:
        """Copy autobahn's options to the class once, and override those that daphne's command line sets.

        Autobahn would copy them to each connection and format them for a disabled log. This is almost half the cost of
        a handshake.
        """
        options = {name: getattr(factory, name) for name in cls.CONFIG_ATTRS} | {
            "maxMessagePayloadSize": cls.limits.max_message_bytes,
            "maxFramePayloadSize": 0,
            "versions": [13],
            "openHandshakeTimeout": cls.limits.open_timeout_seconds,
            # Autobahn's timer fires up to a second early, so `limit_closing_time` replaces it.
            "closeHandshakeTimeout": 0,
        }
        for name, value in options.items():
            setattr(cls, name, staticmethod(value) if callable(value) else value)
        cls.CONFIG_ATTRS = ()

    def connectionMade(self) -> None:  # noqa: N802
        if self.CONFIG_ATTRS:
            self.copy_options(self.factory)
        self._closing_timer: asyncio.TimerHandle | None = None
        self._denial_headers: list[tuple[str, str]] = []
        self._denial_body = b""
        super().connectionMade()

    # --- Messages from the application -----------------------------------------------------------------------------

    def handle_reply(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "websocket.accept":
            if connection_registry.is_draining:
                self._deny(503, "Service Unavailable")
                return
            super().handle_reply(message)
            writer: ConnectionWriter | None = message.get("writer")
            if writer is not None and self.use_daphne_transport and self.state == self.STATE_OPEN:
                self.writer_transport = DaphneTransport(self, writer, direct_frames=self.direct_frames)
                writer.attach(self.writer_transport)
        elif message["type"] == "websocket.http.response.start":
            self._denial_headers = [(name.decode(), value.decode()) for name, value in message.get("headers", ())]
            self._denial_status = HTTPStatus(message["status"])
        elif message["type"] == "websocket.http.response.body":
            self._denial_body = message.get("body", b"")
            self._deny(self._denial_status.value, self._denial_status.phrase)
        elif message["type"] == "websocket.close" and self.state != self.STATE_CONNECTING:
            # Daphne omits the reason, and autobahn's `sendClose` rejects the registered close codes.
            reason = close_reason(message.get("reason") or "")
            self.sendCloseFrame(code=message.get("code") or 1000, reasonUtf8=reason)
        else:
            super().handle_reply(message)

    def _deny(self, status: int, reason: str) -> None:
        self.handshake_deferred.errback(ConnectionDeny(code=status, reason=reason))
        del self.handshake_deferred

    def failHandshake(self, reason: str, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        # Autobahn quotes the subprotocol that a client offers twice. It may be a token.
        super().failHandshake("Invalid handshake" if "protocol" in reason else reason, *args, **kwargs)

    def sendHttpErrorResponse(self, code: int, reason: str, responseHeaders: Any = None) -> None:  # noqa: N802, N803
        super().sendHttpErrorResponse(code, reason, responseHeaders or self._denial_headers)
        if self._denial_body:
            self.sendData(self._denial_body)

    def handle_exception(self, exception: BaseException) -> None:
        if self.state == self.STATE_OPEN:
            self._close_with_error(CloseCode.SERVER_ERROR, ErrorCode.SERVER_ERROR, "Internal server error")
        elif hasattr(self, "handshake_deferred"):
            self._deny(500, "Internal Server Error")

    def sendMessage(self, payload: bytes, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        if self.state != self.STATE_OPEN:
            return  # The client has disconnected; the application's disconnect follows.
        # Autobahn applies the limit of incoming messages to outgoing ones as well.
        self.maxMessagePayloadSize = 0
        try:
            super().sendMessage(payload, *args, **kwargs)
        finally:
            self.maxMessagePayloadSize = self.limits.max_message_bytes

    # --- Closing ---------------------------------------------------------------------------------------------------

    def sendCloseFrame(self, *args: Any, **kwargs: Any) -> None:  # noqa: N802
        super().sendCloseFrame(*args, **kwargs)
        self.limit_closing_time()
        self.read_close_frame()

    def limit_closing_time(self) -> None:
        """Drop the connection after `close_timeout_seconds`, even if data is unsent or the close frame unanswered."""
        if self._closing_timer is None:
            self._closing_timer = self.loop.call_later(
                self.limits.close_timeout_seconds, self.transport.abortConnection
            )

    def _fail_connection(self, code: int = CloseCode.SERVER_ERROR, reason: str = "") -> None:
        """Close with an error message. Autobahn calls this for every violation of the protocol or of our limits.

        Autobahn's own version drops the TCP connection (`failByDrop`), and the client gets no reason.
        """
        if self.state == self.STATE_OPEN:
            if code == CloseCode.TOO_BIG:
                error_code = ErrorCode.MESSAGE_TOO_BIG
                error_message = (
                    f"Message of at least {self.message_data_total_length} bytes "
                    f"exceeds the limit of {self.limits.max_message_bytes} bytes"
                )
            else:
                error_code = ErrorCode.INVALID_MESSAGE
                error_message = f"Invalid WebSocket frame (RFC 6455): {reason}"
            logger.info("Closing the connection from %s: %s", peer_address(self.client_addr), error_message)
            self._close_with_error(code, error_code, error_message)
        self.ignore_input()

    def _close_with_error(self, code: int, error_code: ErrorCode, error_message: str) -> None:
        self.sendMessage(encode_error(RequestError(error_code, error_message)))
        self.sendCloseFrame(code=code, reasonUtf8=close_reason(error_code))

    def dropConnection(self, abort: bool = False) -> None:  # noqa: N802
        """Close the TCP connection. Send no reset if both sides have sent a close frame.

        Autobahn would abort the connection after the client's close frame. Proxies log such a reset as an error.
        """
        super().dropConnection(abort=abort and not self.wasClean)

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:  # noqa: N802, N803
        if self._closing_timer is not None:
            self._closing_timer.cancel()
        if self.writer_transport is not None:
            self.writer_transport.on_disconnected()
            self.writer_transport = None
        # Without `server`, the handshake failed before daphne registered this connection. Daphne removes a rejected one
        # within a second, perhaps before its socket is closed.
        if hasattr(self, "server") and self in self.server.connections:
            super().onClose(wasClean, code, reason)

    def connectionLost(self, reason: Any) -> None:  # noqa: N802
        super().connectionLost(reason)
        # The result of `is_closed` is this object: the cycle would keep the connection in memory.
        del self.is_closed
