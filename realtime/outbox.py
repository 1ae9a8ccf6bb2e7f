"""What one connection has yet to be sent: never waited for by others, bounded in bytes and in time.

On any ASGI server an outbox queues messages and one task sends them. Under daphne our own protocol class attaches
itself as the outbox's *wire* when the connection is accepted, and frames go straight to it (see `realtime.server`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from realtime.frames import Frames
from realtime.limits import Limits

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


class Wire(Protocol):
    """The server's end of a connection, where the server lets us at it."""

    @property
    def unsent_bytes(self) -> int:
        """Bytes that were written and that the operating system has not taken yet."""

    def write(self, frames: Frames) -> None:
        """Send at once or as soon as possible; never wait and never raise."""

    def discard_unsent(self) -> None:
        """Forget what has not begun to be sent, where that is possible."""

    def close(self, code: int, reason: str) -> None:
        """Send what is unsent, then a close frame; give up on a peer that takes too long."""

    def pause_reading(self) -> None:
        """Leave what the peer sends in the operating system's buffers."""

    def resume_reading(self) -> None:
        """Read on."""

    async def drained(self, *, below_bytes: int) -> None:
        """Wait until fewer than `below_bytes` are unsent, or the connection is gone."""


class Outbox:
    """The sending side of one connection.

    Args:
        send: The ASGI server's.
        on_slow: Called once, when more than `max_unsent_bytes` wait or the peer took nothing for
            `max_blocked_seconds`. What is queued is dropped: the peer resumes from the log.
    """

    def __init__(self, send: Send, limits: Limits, *, on_slow: Callable[[str], None]) -> None:
        self.max_unsent_bytes = limits.max_unsent_bytes
        self.max_blocked_seconds = limits.max_blocked_seconds
        self._send = send
        self._on_slow = on_slow
        self._wire: Wire | None = None
        self._queue: deque[Frames] = deque()
        self._queued_bytes = 0
        self._sender: asyncio.Task[None] | None = None
        self._took_some = asyncio.Event()
        self._slow = False
        self._closing: tuple[int, str] | None = None

    def attach(self, wire: Wire) -> None:
        """Send through `wire` from now on. Called by a server that understands `outbox` in `websocket.accept`."""
        self._wire = wire

    @property
    def unsent_bytes(self) -> int:
        """Bytes that wait for the peer."""
        return self._wire.unsent_bytes if self._wire is not None else self._queued_bytes

    def write(self, frames: Frames) -> None:
        """Send these, in order, after what was written before. Never waits and never raises."""
        if self._slow or self._closing is not None:
            return
        if self._wire is not None:
            self._wire.write(frames)
            return
        self._queue.append(frames)
        self._queued_bytes += frames.size_bytes
        if self._queued_bytes > self.max_unsent_bytes:
            self.slow(f"{self._queued_bytes} bytes unsent, at most {self.max_unsent_bytes} allowed")
        elif self._sender is None:
            self._sender = asyncio.create_task(self._send_queued())

    def slow(self, why: str) -> None:
        """The peer does not keep up: say so once and send it nothing more but the goodbye."""
        if not self._slow and self._closing is None:
            self._slow = True
            if self._wire is not None:
                self._wire.discard_unsent()
            self._queue.clear()
            self._queued_bytes = 0
            self._took_some.set()
            self._on_slow(why)

    async def drained(self, *, below_bytes: int) -> None:
        """Wait until fewer than `below_bytes` wait for the peer, or nothing more will be sent."""
        if self._wire is not None:
            await self._wire.drained(below_bytes=below_bytes)
            return
        while self._queued_bytes >= below_bytes and not self._slow and self._closing is None:
            self._took_some.clear()
            await self._took_some.wait()

    def pause_reading(self) -> None:
        """Take no more from the peer for now, where the server lets us say so."""
        if self._wire is not None:
            self._wire.pause_reading()

    def resume_reading(self) -> None:
        """Take from the peer again."""
        if self._wire is not None:
            self._wire.resume_reading()

    def close(self, code: int, reason: str, *, last_words: Frames | None = None) -> None:
        """Send `last_words` and a close frame, after what is queued. Later calls change nothing."""
        if self._closing is not None:
            return
        self._closing = (code, reason)
        if self._wire is not None:
            if last_words is not None:
                self._wire.write(last_words)
            self._wire.close(code, reason)
            return
        if last_words is not None:
            self._queue.append(last_words)
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_queued())

    async def finished(self) -> None:
        """Stop sending. Called when the connection is gone."""
        self._closing = self._closing or (0, "")
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)

    async def _send_queued(self) -> None:
        try:
            while self._queue:
                frames = self._queue.popleft()
                for text in frames.texts:
                    async with asyncio.timeout(self.max_blocked_seconds):
                        await self._send({"type": "websocket.send", "text": text})
                self._queued_bytes = max(self._queued_bytes - frames.size_bytes, 0)
                self._took_some.set()
            if self._closing is not None:
                code, reason = self._closing
                await self._send({"type": "websocket.close", "code": code, "reason": reason})
        except TimeoutError:
            self.slow(f"nothing taken for {self.max_blocked_seconds} s")
        finally:
            self._sender = None
