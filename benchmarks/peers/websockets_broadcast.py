"""`websockets.broadcast()`, as in the documentation of websockets."""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve

from benchmarks.peers.load import Load

_connections: set[ServerConnection] = set()


async def handle(connection: ServerConnection) -> None:
    if connection.request is not None and connection.request.path == "/control":
        async for message in connection:
            for text in Load.of(str(message)).texts():
                broadcast(_connections, text)
        return
    _connections.add(connection)
    try:
        await connection.wait_closed()
    finally:
        _connections.discard(connection)


async def main(port: int) -> None:
    async with serve(handle, "127.0.0.1", port, backlog=4096, compression=None) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
