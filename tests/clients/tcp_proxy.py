"""A TCP proxy in front of a server, which can cut, freeze and delay its connections."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any, Self

from tests.harness.listener import close_listener
from tests.harness.ports import HOST

PART_BYTES = 64 * 1024
TIMEOUT_SECONDS = 10


class _Pair:
    """A connection of a client, and the one to the server."""

    def __init__(self, delay_seconds: float) -> None:
        self.passes = asyncio.Event()
        self.passes.set()
        self.delay_seconds = delay_seconds
        self.is_cut = False
        self.writers: list[asyncio.StreamWriter] = []

    async def copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while part := await reader.read(PART_BYTES):
                await asyncio.sleep(self.delay_seconds)
                await self.passes.wait()
                if self.is_cut:
                    break
                writer.write(part)
                await writer.drain()
        self.cut()

    def cut(self) -> None:
        self.is_cut = True
        self.passes.set()
        for writer in self.writers:
            writer.transport.abort()

    async def wait_closed(self) -> None:
        for writer in self.writers:
            with suppress(OSError):
                await writer.wait_closed()


class TcpProxy:
    """A proxy in its own thread, whose methods may be called in any thread.

    Args:
        target_port: The port of the server.
        delay_seconds: How long each part of a stream takes.
    """

    def __init__(self, target_port: int, *, delay_seconds: float = 0.0) -> None:
        self._target_port = target_port
        self._delay_seconds = delay_seconds
        self._pairs: set[_Pair] = set()
        self._is_closing = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_SECONDS)
        self._loop.close()

    def cut(self) -> int:
        """End all connections with a reset, and return how many there were."""

        async def cut() -> int:
            pairs = list(self._pairs)
            for pair in pairs:
                pair.cut()
            return len(pairs)

        count: int = self._run(cut())
        return count

    def freeze(self) -> None:
        """Pass nothing on, and end nothing: the connections that exist are half-open from now on."""

        async def freeze() -> None:
            for pair in self._pairs:
                pair.passes.clear()

        self._run(freeze())

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, HOST, 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        """Accept nothing more, and wait until each connection that was accepted is closed."""
        self._is_closing = True
        await close_listener(self._server)
        while tasks := asyncio.all_tasks() - {asyncio.current_task()}:
            for pair in self._pairs:
                pair.cut()
            await asyncio.wait(tasks)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pair = _Pair(self._delay_seconds)
        self._pairs.add(pair)
        try:
            pair.writers.append(writer)
            if self._is_closing:
                return
            upstream_reader, upstream_writer = await asyncio.open_connection(HOST, self._target_port)
            pair.writers.append(upstream_writer)
            if pair.is_cut:
                return
            await asyncio.gather(pair.copy(reader, upstream_writer), pair.copy(upstream_reader, writer))
        except OSError:
            pass
        finally:
            pair.cut()
            await pair.wait_closed()
            self._pairs.discard(pair)

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT_SECONDS)
