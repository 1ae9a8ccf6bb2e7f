"""The streams of chunks that one connection reads, each with a task that sends what follows."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator

from realtime.database import log_failure
from realtime.streams.hub import StreamHub
from realtime.streams.stream_reader import StreamReader

logger = logging.getLogger(__name__)


class StreamSubscriptions:
    """The streams of one connection.

    Args:
        hub: The streams of this process.
        on_failure: Called if a stream cannot be sent: the fault is the server's.
    """

    def __init__(self, hub: StreamHub, *, on_failure: Callable[[], None]) -> None:
        self.hub = hub
        self._on_failure = on_failure
        self._reading: dict[str, tuple[StreamReader, asyncio.Task[None]]] = {}

    def __len__(self) -> int:
        return len(self._reading)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._reading))

    def start(self, channel: str, reader: StreamReader) -> None:
        """Send what a reader has, until its stream is closed. The client was answered."""
        self._reading[channel] = reader, asyncio.create_task(self._run(channel, reader))

    def leave(self, channel: str) -> None:
        """End the subscription to a stream, if there is one."""
        if (reading := self._reading.pop(channel, None)) is not None:
            reader, task = reading
            self.hub.leave(channel, reader)
            task.cancel()

    async def stop(self) -> None:
        """End all subscriptions. Called after the disconnect."""
        tasks = [task for _, task in self._reading.values()]
        for channel in list(self._reading):
            self.leave(channel)
        await asyncio.gather(*tasks, return_exceptions=True)
        self._on_failure = _ignore

    async def _run(self, channel: str, reader: StreamReader) -> None:
        try:
            await reader.run()
        except Exception as error:
            log_failure(logger, f"Closing a connection: its stream {channel!r} failed", error)
            self._on_failure()
        self.hub.leave(channel, reader)
        if channel in self._reading and self._reading[channel][0] is reader:
            del self._reading[channel]


def _ignore() -> None:
    """Ignore a failure after the disconnect."""
