"""The connections of an attack, all from one address that is not that of the polite clients."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from benchmarks.subscriber_process import masked_text
from tests.connection.raw_client import HANDSHAKE

ADDRESS = "127.0.0.2"
READ_BYTES = 256 * 1024
TURN_SECONDS = 0.1
CONNECT_SECONDS = 5.0


def subscribe(channel: str, **options: object) -> bytes:
    """Return the frame of a request to subscribe."""
    return request("subscribe", channel=channel, **options)


def request(event: str, **data: object) -> bytes:
    """Return the frame of a request."""
    return masked_text(json.dumps({"type": "request", "event": event, "data": data, "id": "1"}))


class Attacker:
    """Opens the connections of an attack and counts what happens to them.

    Attributes:
        counts: What the attack did, and how the server responded.
    """

    def __init__(self, port: int, seconds: float) -> None:
        self.port = port
        self.counts: Counter[str] = Counter()
        self._ends_at = time.monotonic() + seconds

    @property
    def is_over(self) -> bool:
        return time.monotonic() >= self._ends_at

    async def until_over(self) -> None:
        await asyncio.sleep(max(self._ends_at - time.monotonic(), 0))

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a TCP connection.

        Raises:
            OSError: if it is refused.
            TimeoutError: if it is not accepted.
        """
        return await asyncio.wait_for(
            asyncio.open_connection("127.0.0.1", self.port, local_addr=(ADDRESS, 0), limit=READ_BYTES),
            CONNECT_SECONDS,
        )

    async def open_websocket(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a WebSocket.

        Raises:
            OSError: if it is refused; counted as `refused`.
            TimeoutError: if it is not answered.
        """
        reader, writer = await self.open()
        writer.write(HANDSHAKE)
        try:
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), CONNECT_SECONDS)
        except asyncio.IncompleteReadError:
            head = b"closed"
        if b" 101 " not in head:
            self.counts["refused"] += 1
            writer.transport.abort()
            raise ConnectionRefusedError(head)
        self.counts["connections"] += 1
        return reader, writer

    async def repeat(self, attempt: Callable[[], Awaitable[None]]) -> None:
        """Repeat until the time is over; errors of the connection are counted, and begin the next attempt."""
        while not self.is_over:
            try:
                await attempt()
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                self.counts[type(error).__name__] += 1
                await asyncio.sleep(TURN_SECONDS)

    async def at_once(self, number: int, attempt: Callable[[], Awaitable[None]]) -> None:
        """Let `number` clients repeat an attempt."""
        await asyncio.gather(*(self.repeat(attempt) for _ in range(number)))
