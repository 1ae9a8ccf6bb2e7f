"""The transport for ASGI servers other than daphne: a queue, and a task that sends it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any

from realtime.connection.slow_consumer import SlowConsumerDetector
from realtime.connection.writer import ConnectionWriter
from realtime.protocol.frames import Frames

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
"""The `send` callable of an ASGI application."""


class AsgiTransport:
    """Implements `realtime.connection.transport.Transport`. The send task waits while the client does not read.

    Args:
        send: The `send` callable of the ASGI server.
        writer: The writer whose frames are sent.
    """

    def __init__(self, send: Send, writer: ConnectionWriter) -> None:
        self._send = send
        self._writer = writer
        self._queue: deque[Frames] = deque()
        self._queued_bytes = 0
        self._close_frame: tuple[int, str] | None = None
        self._send_task: asyncio.Task[None] | None = None
        self._progress = asyncio.Event()
        self._slow_consumer = SlowConsumerDetector(self, writer.limits, on_slow=writer.mark_slow)
        self.sent_bytes = 0

    @property
    def queued_bytes(self) -> int:
        return self._queued_bytes

    def write(self, frames: Frames) -> None:
        self._queue.append(frames)
        self._queued_bytes += frames.size_bytes
        self._slow_consumer.check()
        self._start_sending()

    def discard_queued(self) -> None:
        self._queue.clear()
        self._queued_bytes = 0
        self._slow_consumer.stop()
        self._progress.set()

    def close(self, code: int, reason: str) -> None:
        self._close_frame = (code, reason)
        self._progress.set()
        self._start_sending()

    def pause_reading(self) -> None:
        """Do nothing: ASGI cannot pause reading."""

    def resume_reading(self) -> None:
        """Do nothing: ASGI cannot pause reading."""

    def charge(self, cost: int) -> None:
        """Do nothing: ASGI cannot pause reading."""

    async def drained(self, *, below_bytes: int) -> None:
        while self._queued_bytes >= below_bytes and self._close_frame is None:
            self._progress.clear()
            await self._progress.wait()

    async def stop(self) -> None:
        self._slow_consumer.stop()
        if self._send_task is not None:
            self._send_task.cancel()
            await asyncio.gather(self._send_task, return_exceptions=True)
        del self._slow_consumer, self._send_task  # Both refer back to this transport.

    def _start_sending(self) -> None:
        if self._send_task is None or self._send_task.done():
            self._send_task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self._send_queue()
        except TimeoutError:
            if self._close_frame is None:
                self._writer.mark_stalled()
                with suppress(TimeoutError, OSError):
                    await self._send_queue()
            # If even the close frame times out, the server detects the lost connection and disconnects the consumer.
        except OSError:
            self.discard_queued()
            self._writer.mark_disconnected()  # The consumer's disconnect follows.

    async def _send_queue(self) -> None:
        """Send everything queued, including frames that are queued meanwhile.

        Raises:
            TimeoutError: if the client reads nothing for too long. The frames being sent are lost.
            OSError: if the client has disconnected.
        """
        while self._queue:
            frames = self._queue.popleft()
            for text in frames.texts:
                async with asyncio.timeout(self._timeout_seconds):
                    await self._send({"type": "websocket.send", "text": text})
            self._queued_bytes = max(self._queued_bytes - frames.size_bytes, 0)
            self.sent_bytes += frames.size_bytes
            self._progress.set()
        if self._close_frame is not None:
            code, reason = self._close_frame
            async with asyncio.timeout(self._timeout_seconds):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})

    @property
    def _timeout_seconds(self) -> float:
        limits = self._writer.limits
        return limits.send_stall_seconds if self._close_frame is None else limits.close_timeout_seconds
