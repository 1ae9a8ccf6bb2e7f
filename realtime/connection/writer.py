"""The sending side of one connection. It passes frames to a transport, which holds the send queue.

The queue is bounded in bytes and time, and sending never blocks other connections.

Under daphne, our protocol class attaches its own `Transport` when the connection is accepted, and frames go straight to
the socket (see `realtime.daphne_server.transport`). On any other ASGI server the fallback transport sends them.
"""

from __future__ import annotations

from collections.abc import Callable

from realtime.connection.transport import Transport
from realtime.limits import Limits
from realtime.protocol.frames import Frames


class ConnectionWriter:
    """The sending side of one connection.

    Args:
        limits: The bounds of the send queue and of the times to send and to close.
        fallback: Builds the transport if the server attaches none.
        on_slow: Called once, with the reason, when the client does not keep up (see
            `realtime.connection.slow_consumer`) or has read nothing for `send_stall_seconds`. Queued frames are
            dropped: the client resumes from the event log.
        on_disconnected: Called once, when the transport reports that the client has disconnected. The application's
            disconnect follows, after the messages that were received before.

    Attributes:
        is_disconnected: Whether the transport has reported that the client has disconnected.
    """

    __slots__ = (
        "_fallback",
        "_is_closing",
        "_is_slow",
        "_on_disconnected",
        "_on_slow",
        "_transport",
        "is_disconnected",
        "limits",
    )

    def __init__(
        self,
        limits: Limits,
        *,
        fallback: Callable[[ConnectionWriter], Transport],
        on_slow: Callable[[str], None],
        on_disconnected: Callable[[], None],
    ) -> None:
        self.limits = limits
        self._fallback = fallback
        self._on_slow = on_slow
        self._on_disconnected = on_disconnected
        self.is_disconnected = False
        self._transport: Transport | None = None
        self._is_slow = False
        self._is_closing = False

    def attach(self, transport: Transport) -> None:
        """Send through `transport` from now on. A server calls this if it uses the `writer` in `websocket.accept`."""
        self._transport = transport

    @property
    def transport(self) -> Transport:
        if self._transport is None:
            self._transport = self._fallback(self)
        return self._transport

    def write(self, frames: Frames) -> None:
        """Send `frames` after everything written before. Never waits and never raises."""
        if not self._is_slow and not self._is_closing:
            self.transport.write(frames)

    def mark_slow(self, reason: str) -> None:
        """Report a slow consumer once, drop its queue, and send only the close frame. Called by the transport."""
        if not self._is_slow and not self._is_closing:
            self._is_slow = True
            self.transport.discard_queued()
            self._on_slow(reason)

    def mark_stalled(self) -> None:
        """Report a client that has read nothing for `send_stall_seconds`. Called by the transport."""
        self.mark_slow(f"nothing read for {self.limits.send_stall_seconds:g} s")

    def mark_disconnected(self) -> None:
        """Report that the client has disconnected. Called by the transport, which learns it before the application."""
        if not self.is_disconnected:
            self.is_disconnected = True
            self._on_disconnected()

    async def drained(self, *, below_bytes: int) -> None:
        """Wait until fewer than `below_bytes` are queued, or nothing more will be sent."""
        if not self._is_slow and not self._is_closing:
            await self.transport.drained(below_bytes=below_bytes)

    def pause_reading(self) -> None:
        """Stop reading from the client, if the server supports it."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Undo one `pause_reading`; reading resumes after the last one."""
        if self._transport is not None:
            self._transport.resume_reading()

    def charge(self, cost: int) -> None:
        """Count work for the client as so many more messages, if the server has a ceiling for all clients together."""
        if self._transport is not None:
            self._transport.charge(cost)

    def close(
        self, code: int, reason: str, *, final_message: Frames | None = None, discards_queued: bool = False
    ) -> None:
        """Send `final_message` and a close frame, after what is queued. Later calls have no effect.

        Args:
            code: The code of the close frame.
            reason: Its reason.
            final_message: The last message, if any.
            discards_queued: Whether to drop what is queued, and has not begun to be sent.
        """
        if not self._is_closing:
            self._is_closing = True
            if discards_queued:
                self.transport.discard_queued()
            if final_message is not None:
                self.transport.write(final_message)
            self.transport.close(code, reason)

    async def stop(self) -> None:
        """Stop sending, and drop the references to the transport and the consumer. Called after the disconnect."""
        self._is_closing = True
        await self.transport.stop()
        self._transport = None
        self._on_slow = _ignore_slow
        self._on_disconnected = _ignore_disconnect


def _ignore_slow(reason: str) -> None:
    """Ignore a slow consumer that has disconnected."""


def _ignore_disconnect() -> None:
    """Ignore the end of a connection that the application has already left."""
