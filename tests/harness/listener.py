"""Closes a server of asyncio so that no socket stays open."""

from __future__ import annotations

import asyncio


async def close_listener(server: asyncio.Server) -> None:
    """Accept nothing more, and close the server. Connections that were accepted stay open.

    asyncio accepts a connection in a separate task. When the server is closed before that task runs, the socket of the
    connection stays open, and a later test fails with a `ResourceWarning`.
    """
    loop = asyncio.get_running_loop()
    for listener in server.sockets:
        loop.remove_reader(listener)
    await asyncio.sleep(0)
    server.close()
