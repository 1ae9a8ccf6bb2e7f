"""A small reverse proxy that removes a prefix from paths, as nginx does with `proxy_pass http://server/;`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from tests.harness.listener import close_listener
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer

PART_BYTES = 64 * 1024


@asynccontextmanager
async def stripping_proxy(server: MahavishnuServer, prefix: str) -> AsyncIterator[str]:
    """Start the proxy in front of a server and return its address, such as `127.0.0.1:5000`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            upstream_reader, upstream_writer = await asyncio.open_connection(HOST, server.port)
            upstream_writer.write(forwarded(head, prefix))
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(copy(reader, upstream_writer))
                tasks.create_task(copy(upstream_reader, writer))

    proxy = await asyncio.start_server(serve, HOST, 0)
    try:
        host, port = proxy.sockets[0].getsockname()
        yield f"{host}:{port}"
    finally:
        await close_listener(proxy)


def forwarded(head: bytes, prefix: str) -> bytes:
    """Return the head of a request without the prefix. The connection ends after it, unless it is upgraded."""
    head = re.sub(rb"\A(\w+) " + prefix.encode() + rb"/", rb"\1 /", head)
    return re.sub(rb"(?i)(\r\nConnection: )keep-alive", rb"\1close", head)


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while part := await reader.read(PART_BYTES):
            writer.write(part)
            await writer.drain()
    writer.close()
