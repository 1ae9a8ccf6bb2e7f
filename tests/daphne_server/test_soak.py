"""Thousands of connections open and close, and the server process leaks nothing, without a garbage collector.

`make chaos` opens 20,000, or as many as the variable `SOAK_CONNECTS` says.
"""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from realtime.connection.asgi_transport import AsgiTransport
from realtime.connection.writer import ConnectionWriter
from realtime.limits import Limits
from realtime.protocol.frames import Frames
from tests.connection.raw_client import SMALL_BUFFER_BYTES, open_raw, request
from tests.daphne_server.in_process import do_nothing
from tests.daphne_server.soak_client import ProcessUsage, SoakClient
from tests.events.announcements import announce
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.table_lock import workflows_locked
from tests.harness.waiting import eventually

CONNECTS = 1500
MANY_CONNECTS = int(os.environ.get("SOAK_CONNECTS", "20000"))
MIN_CONNECTS_PER_SECOND = 50

WARM_UP_CONNECTS = 1000

MAX_MORE_MEMORY_BYTES = 8 * 1024 * 1024

# Asyncio keeps up to a hundred cancelled timers, and each refers to two more objects. Python's sqlite3 keeps weak
# references to up to 200 deleted cursors of a connection.
MAX_MORE_OBJECTS = 200
# Without a leak, the number varies by about 400: timers and weak references as above, and what a round that deletes old
# events keeps, the first of them a minute after the start. One block for each connection must show.
MAX_MORE_MEMORY_BLOCKS = CONNECTS // 2


def leaks(after: ProcessUsage, before: ProcessUsage) -> dict[str, int]:
    """Return how many more objects of a type, and how many more memory blocks, exist than is allowed."""
    leaked = {name: more for name, more in after.growth(before).items() if more > MAX_MORE_OBJECTS}
    more_memory_blocks = after.memory_blocks - before.memory_blocks
    if more_memory_blocks >= MAX_MORE_MEMORY_BLOCKS:
        leaked["memory blocks"] = more_memory_blocks
    return leaked


@pytest.fixture(scope="module")
def soak(tmp_path_factory: pytest.TempPathFactory) -> SoakClient:
    return SoakClient(tmp_path_factory.mktemp("soak"))


@pytest.fixture(scope="module")
def soaked(server: MahavishnuServer, start_module_server: StartServer, soak: SoakClient) -> MahavishnuServer:
    # More threads would start one by one, at a time that depends on the load, each with objects and files that stay.
    return start_module_server(beside=server, environment=soak.environment, database_threads=1)


@pytest.mark.timeout(60 + MANY_CONNECTS / MIN_CONNECTS_PER_SECOND)
@pytest.mark.parametrize("connects", [CONNECTS, pytest.param(MANY_CONNECTS, marks=pytest.mark.chaos)])
def test_closed_connections_leak_no_memory_objects_files_or_threads(
    soaked: MahavishnuServer, soak: SoakClient, connects: int
) -> None:
    soak.connect(soaked, WARM_UP_CONNECTS)
    before = soak.usage_without_connections(soaked)
    soak.connect(soaked, connects)
    # Threads that read or prune the log allocate blocks while they run.
    after = soak.usage_without_connections(soaked, is_settled=lambda usage: not leaks(usage, before))
    print(f"{connects} connects: {before.summary()} before, {after.summary()} after")
    print(f"Growth by type: {after.growth(before).most_common(20)}")
    assert leaks(after, before) == {}
    assert after.memory_bytes - before.memory_bytes < MAX_MORE_MEMORY_BYTES
    assert after.threads <= before.threads
    assert after.files <= before.files


async def test_disconnect_during_a_request_leaks_no_objects(start_server: StartServer, tmp_path: Path) -> None:
    soak = SoakClient(tmp_path)
    server = start_server(database="postgres", environment=soak.environment)
    with workflows_locked(server):
        async with connect(server) as client:
            await client.send(
                {"type": "request", "event": "get_workflow_status", "data": {"workflow_id": "w"}, "id": "1"}
            )
            # The second pong is sent when the request waits for the database.
            for _ in range(2):
                await client.send({"type": "ping"})
                assert (await client.next())["type"] == "pong"
        soak.usage_without_connections(server)


async def test_closed_slow_consumer_leaks_no_objects(soaked: MahavishnuServer, soak: SoakClient) -> None:
    async with open_raw(soaked.port, receive_buffer_bytes=SMALL_BUFFER_BYTES) as client:
        await client.send(request("subscribe", channel="workflow:soaked"))
        assert (await client.message())["type"] == "response"
        announce(soaked, "workflow:soaked", *[60_000] * 60)
        await eventually(lambda: "slow consumer" in soaked.log_text(), within_seconds=60, what="the slow consumer")
    soak.usage_without_connections(soaked)


async def test_stopped_asgi_transport_is_freed_without_a_garbage_collector() -> None:
    async def send(message: Mapping[str, Any]) -> None:
        """Do nothing."""

    writer = ConnectionWriter(
        Limits(), fallback=partial(AsgiTransport, send), on_slow=lambda reason: None, on_disconnected=do_nothing
    )
    writer.write(Frames([b"{}"]))
    transport = weakref.ref(writer.transport)
    gc.disable()
    try:
        await writer.stop()
        await asyncio.sleep(0)  # The loop iteration that stopped it holds it until then.
        assert transport() is None
    finally:
        gc.enable()
