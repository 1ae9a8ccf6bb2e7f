"""What one connection has yet to be sent: never waited for by others, bounded in bytes and in time.

Under daphne our own protocol class attaches itself as the writer's *wire* when the connection is accepted, and frames
go straight to it (see `realtime.daphne_server.transport`). On any other ASGI server the wire is a queue and a task that sends it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from realtime.connection.transport import Transport
from realtime.limits import Limits
from realtime.protocol.frames import Frames

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class ConnectionWriter:
    """The sending side of one connection.

    Args:
        send: The ASGI server's.
        on_slow: Called once, with the reason, when the peer does not take what waits (see `realtime.connection.slow_consumer`) or took
            nothing for `send_stall_seconds`. What is queued is dropped: the peer resumes from the log.
    """

    __slots__ = ("_is_closing", "_is_slow", "_on_slow", "_send", "_transport", "limits")

    def __init__(self, send: Send, limits: Limits, *, on_slow: Callable[[str], None]) -> None:
        self.limits = limits
        self._send = send
        self._on_slow = on_slow
        self._transport: Transport | None = None
        self._is_slow = False
        self._is_closing = False

    def attach(self, wire: Transport) -> None:
        """Send through `wire` from now on. Called by a server that understands `writer` in `websocket.accept`."""
        self._transport = wire

    @property
    def transport(self) -> Transport:
        if self._transport is None:
            from realtime.connection.asgi_transport import AsgiTransport

            self._transport = AsgiTransport(self._send, self)
        return self._transport

    def write(self, frames: Frames) -> None:
        """Send these, in order, after what was written before. Never waits and never raises."""
        if not self._is_slow and not self._is_closing:
            self.transport.write(frames)

    def slow(self, why: str) -> None:
        """The peer does not keep up: say so once and send it nothing more but the close_frame. Called by the wire."""
        if not self._is_slow and not self._is_closing:
            self._is_slow = True
            self.transport.discard_queued()
            self._on_slow(why)

    async def drained(self, *, below_bytes: int) -> None:
        """Wait until fewer than `below_bytes` wait for the peer, or nothing more will be sent."""
        if not self._is_slow and not self._is_closing:
            await self.transport.drained(below_bytes=below_bytes)

    def pause_reading(self) -> None:
        """Take no more from the peer for now, where the server lets us say so."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Take from the peer again, once this was called as often as `pause_reading`."""
        if self._transport is not None:
            self._transport.resume_reading()

    def close(self, code: int, reason: str, *, final_message: Frames | None = None) -> None:
        """Send `final_message` and a close frame, after what is queued. Later calls change nothing."""
        if not self._is_closing:
            self._is_closing = True
            if final_message is not None:
                self.transport.write(final_message)
            self.transport.close(code, reason)

    async def finished(self) -> None:
        """Stop sending, and let go of both sides. Called when the connection is gone."""
        self._is_closing = True
        await self.transport.finished()
        self._transport = None
        self._on_slow = _ignore_slow


def _ignore_slow(why: str) -> None:
    """There is nobody left who would close the connection."""
