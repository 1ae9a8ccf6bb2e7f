"""What one connection has yet to be sent: never waited for by others, bounded in bytes and in time.

Under daphne our own protocol class attaches itself as the outbox's *wire* when the connection is accepted, and frames
go straight to it (see `realtime.daphne_server.transport`). On any other ASGI server the wire is a queue and a task that sends it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from realtime.limits import Limits
from realtime.protocol.frames import Frames

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class Wire(Protocol):
    """The server's end of a connection."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were written and that the operating system has not taken yet."""

    def write(self, frames: Frames) -> None:
        """Send at once or as soon as possible; never wait and never raise.

        The outbox is told of a peer that is `slow`.
        """

    def discard_unsent(self) -> None:
        """Forget what has not begun to be sent."""

    def close(self, code: int, reason: str) -> None:
        """Send what is unsent, then a close frame; give up on a peer that takes too long."""

    def pause_reading(self) -> None:
        """Leave what the peer sends in the operating system's buffers, where the server lets us say so."""

    def resume_reading(self) -> None:
        """Take back one `pause_reading`."""

    async def drained(self, *, below_bytes: int) -> None:
        """Wait until fewer than `below_bytes` are unsent, or nothing more will be sent."""

    async def finished(self) -> None:
        """Stop sending: the connection is gone."""


class Outbox:
    """The sending side of one connection.

    Args:
        send: The ASGI server's.
        on_slow: Called once, with the reason, when the peer does not take what waits (see `realtime.connection.slow_consumer`) or took
            nothing for `max_blocked_seconds`. What is queued is dropped: the peer resumes from the log.
    """

    __slots__ = ("_is_closing", "_is_slow", "_on_slow", "_send", "_wire", "limits")

    def __init__(self, send: Send, limits: Limits, *, on_slow: Callable[[str], None]) -> None:
        self.limits = limits
        self._send = send
        self._on_slow = on_slow
        self._wire: Wire | None = None
        self._is_slow = False
        self._is_closing = False

    def attach(self, wire: Wire) -> None:
        """Send through `wire` from now on. Called by a server that understands `outbox` in `websocket.accept`."""
        self._wire = wire

    @property
    def wire(self) -> Wire:
        if self._wire is None:
            from realtime.connection.asgi_transport import AsgiWire

            self._wire = AsgiWire(self._send, self)
        return self._wire

    def write(self, frames: Frames) -> None:
        """Send these, in order, after what was written before. Never waits and never raises."""
        if not self._is_slow and not self._is_closing:
            self.wire.write(frames)

    def slow(self, why: str) -> None:
        """The peer does not keep up: say so once and send it nothing more but the goodbye. Called by the wire."""
        if not self._is_slow and not self._is_closing:
            self._is_slow = True
            self.wire.discard_unsent()
            self._on_slow(why)

    async def drained(self, *, below_bytes: int) -> None:
        """Wait until fewer than `below_bytes` wait for the peer, or nothing more will be sent."""
        if not self._is_slow and not self._is_closing:
            await self.wire.drained(below_bytes=below_bytes)

    def pause_reading(self) -> None:
        """Take no more from the peer for now, where the server lets us say so."""
        if self._wire is not None:
            self._wire.pause_reading()

    def resume_reading(self) -> None:
        """Take from the peer again, once this was called as often as `pause_reading`."""
        if self._wire is not None:
            self._wire.resume_reading()

    def close(self, code: int, reason: str, *, last_words: Frames | None = None) -> None:
        """Send `last_words` and a close frame, after what is queued. Later calls change nothing."""
        if not self._is_closing:
            self._is_closing = True
            if last_words is not None:
                self.wire.write(last_words)
            self.wire.close(code, reason)

    async def finished(self) -> None:
        """Stop sending, and let go of both sides. Called when the connection is gone."""
        self._is_closing = True
        await self.wire.finished()
        self._wire = None
        self._on_slow = _tell_nobody


def _tell_nobody(why: str) -> None:
    """There is nobody left who would close the connection."""
