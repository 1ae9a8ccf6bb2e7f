"""The threads that read the database: slow queries of clients occupy their own, and nothing else waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from tests.harness.client import Client, connect
from tests.harness.fixtures import StartServer
from tests.harness.health import read_health
from tests.harness.server import MahavishnuServer
from tests.harness.table_lock import blocked_queries, workflows_locked
from tests.harness.waiting import eventually

DATABASE_THREADS = 2
WITHIN_SECONDS = 60


@asynccontextmanager
async def stuck_requests(server: MahavishnuServer) -> AsyncIterator[None]:
    """Occupy every database thread for requests with a query that waits for a lock."""
    async with AsyncExitStack() as stack:
        stack.enter_context(workflows_locked(server))
        clients = [await stack.enter_async_context(connect(server)) for _ in range(DATABASE_THREADS)]
        for number, client in enumerate(clients):
            await request_snapshot(client, f"workflow:stuck_{number}")
        await eventually(
            lambda: blocked_queries(server) == DATABASE_THREADS,
            within_seconds=WITHIN_SECONDS,
            what="a blocked query in each thread",
        )
        yield


async def request_snapshot(client: Client, channel: str) -> None:
    await client.send({"type": "request", "event": "subscribe", "data": {"channel": channel, "snapshot": True}})


async def test_events_and_health_continue_while_every_request_thread_is_stuck(start_server: StartServer) -> None:
    server = start_server(database="postgres", database_threads=DATABASE_THREADS, request_timeout_seconds=600.0)
    async with connect(server) as client, connect(server) as newcomer:
        await client.subscribe("global")
        async with stuck_requests(server):
            # Without a channel layer, each event takes the way through the log.
            await asyncio.to_thread(server.valkey.kill)
            await asyncio.to_thread(server.services.create_pool, pool_id="p1")
            assert (await client.event())["data"]["pool_id"] == "p1"
            await newcomer.subscribe("pool:p2")
            await asyncio.to_thread(server.services.create_pool, pool_id="p2")
            assert (await newcomer.event())["data"]["pool_id"] == "p2"
            report = read_health(server)[1]
            assert (report["database"], report["relay"]) == ("up", "up")
