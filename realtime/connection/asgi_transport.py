"""The sending side of one connection on an ASGI server that we know nothing of: a queue, and a task that sends it."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from realtime.connection.slow_consumer import SlowConsumerDetector
from realtime.connection.writer import ConnectionWriter, Send
from realtime.protocol.frames import Frames


class AsgiTransport:
    """Implements `realtime.connection.writer.Wire`. The server makes our task wait while the peer does not read."""

    def __init__(self, send: Send, writer: ConnectionWriter) -> None:
        self._send = send
        self._writer = writer
        self._queue: deque[Frames] = deque()
        self._queued_bytes = 0
        self._goodbye: tuple[int, str] | None = None
        self._sender: asyncio.Task[None] | None = None
        self._took_some = asyncio.Event()
        self._burst = SlowConsumerDetector(self, writer.limits, on_slow=writer.slow)
        self.taken_bytes = 0

    @property
    def queued_bytes(self) -> int:
        return self._queued_bytes

    def write(self, frames: Frames) -> None:
        self._queue.append(frames)
        self._queued_bytes += frames.size_bytes
        self._burst.check()
        self._start()

    def discard_queued(self) -> None:
        self._queue.clear()
        self._queued_bytes = 0
        self._burst.end()
        self._took_some.set()

    def close(self, code: int, reason: str) -> None:
        self._goodbye = (code, reason)
        self._took_some.set()
        self._start()

    def pause_reading(self) -> None:
        """ASGI has no words for it."""

    def resume_reading(self) -> None:
        """ASGI has no words for it."""

    async def drained(self, *, below_bytes: int) -> None:
        while self._queued_bytes >= below_bytes and self._goodbye is None:
            self._took_some.clear()
            await self._took_some.wait()

    async def finished(self) -> None:
        self._burst.end()
        if self._sender is not None:
            self._sender.cancel()
            await asyncio.gather(self._sender, return_exceptions=True)
        del self._burst, self._sender  # They refer to this.

    def _start(self) -> None:
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_everything())

    async def _send_everything(self) -> None:
        try:
            await self._send_queue()
        except TimeoutError:
            if self._goodbye is None:
                self._writer.slow(f"nothing taken for {self._writer.limits.send_stall_seconds:g} s")
                with suppress(TimeoutError, OSError):
                    await self._send_queue()
            # If it takes not even the close_frame, the server will notice that it is gone, and tell the consumer.
        except OSError:
            self.discard_queued()  # It has gone, and the consumer is about to hear of it.

    async def _send_queue(self) -> None:
        """Send what is queued and what comes meanwhile.

        Raises:
            TimeoutError: if the peer takes nothing for too long. What was on its way is lost.
            OSError: if it has gone.
        """
        while self._queue:
            frames = self._queue.popleft()
            for text in frames.texts:
                async with asyncio.timeout(self._patience_seconds):
                    await self._send({"type": "websocket.send", "text": text})
            self._queued_bytes = max(self._queued_bytes - frames.size_bytes, 0)
            self.taken_bytes += frames.size_bytes
            self._took_some.set()
        if self._goodbye is not None:
            code, reason = self._goodbye
            async with asyncio.timeout(self._patience_seconds):
                await self._send({"type": "websocket.close", "code": code, "reason": reason})

    @property
    def _patience_seconds(self) -> float:
        limits = self._writer.limits
        return limits.send_stall_seconds if self._goodbye is None else limits.close_timeout_seconds
