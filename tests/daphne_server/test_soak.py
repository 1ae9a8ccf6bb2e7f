"""Thousands of clients come and go, and the server process holds no more than before, without a garbage collector.

`SOAK_CONNECTS=20000 make test ARGS=tests/daphne_server/test_soak.py` lets more of them come than the run of all tests does.
"""

from __future__ import annotations

import asyncio
import gc
import os
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from realtime.connection.writer import ConnectionWriter
from realtime.limits import Limits
from realtime.protocol.frames import Frames
from tests.connection.raw_client import NARROW_BYTES, open_raw, request
from tests.daphne_server.soak_client import Holding, Soak
from tests.events.announcements import announce
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.table_lock import workflows_locked
from tests.harness.waiting import wait_until

CONNECTS = int(os.environ.get("SOAK_CONNECTS", "1500"))
MIN_CONNECTS_PER_SECOND = 50

WARM_UP_CONNECTS = 1000

MAX_MORE_MEMORY_BYTES = 8 * 1024 * 1024

# Timers that were cancelled, of which asyncio keeps up to a hundred and both ends of what each refers to.
MAX_MORE_OBJECTS = 200
MAX_MORE_MEMORY_BLOCKS = 1200

# The threads that read the database start one by one, and each opens its file and the log of that.
DATABASE_THREADS = 4
MAX_FILES_OF_ONE_THREAD = 3

# Python's sqlite3 remembers up to 200 cursors of each connection that are gone already.
MAX_MORE_OF_A_TYPE = {"weakref.ReferenceType": DATABASE_THREADS * 200}


def kept(after: Holding, before: Holding) -> dict[str, int]:
    """The types of which there are more than there were, though nobody is there any more."""
    growth = after.growth(before)
    return {name: more for name, more in growth.items() if more > MAX_MORE_OF_A_TYPE.get(name, MAX_MORE_OBJECTS)}


@pytest.mark.timeout(60 + CONNECTS / MIN_CONNECTS_PER_SECOND)
def test_clients_that_have_come_and_gone_leave_nothing_behind(
    server: MahavishnuServer, start_server: StartServer, tmp_path: Path
) -> None:
    soak = Soak(tmp_path)
    soaked = start_server(beside=server, environment=soak.environment, database_threads=DATABASE_THREADS)
    soak.connect(soaked, WARM_UP_CONNECTS)
    before = soak.holding(soaked)
    soak.connect(soaked, CONNECTS)
    after = soak.holding(soaked, settled=lambda holding: not kept(holding, before))
    print(f"{CONNECTS} connects: {before.summary()} before, {after.summary()} after")
    assert kept(after, before) == {}
    assert after.memory_blocks - before.memory_blocks < MAX_MORE_MEMORY_BLOCKS
    assert after.memory_bytes - before.memory_bytes < MAX_MORE_MEMORY_BYTES
    more_threads = after.threads - before.threads
    assert more_threads <= DATABASE_THREADS
    assert after.files - before.files <= more_threads * MAX_FILES_OF_ONE_THREAD


async def test_a_client_that_leaves_while_it_is_answered_leaves_nothing_behind(
    start_server: StartServer, tmp_path: Path
) -> None:
    soak = Soak(tmp_path)
    server = start_server(database="postgres", environment=soak.environment)
    with workflows_locked(server):
        async with connect(server) as client:
            asked = {"type": "request", "event": "get_workflow_status", "data": {"workflow_id": "w"}, "id": "1"}
            await client.send(asked)
            # The second is taken once the answer waits for the database.
            for _ in range(2):
                await client.send({"type": "ping"})
                assert (await client.next())["type"] == "pong"
        soak.holding(server)


async def test_a_reader_that_was_cut_leaves_nothing_behind(start_server: StartServer, tmp_path: Path) -> None:
    soak = Soak(tmp_path)
    server = start_server(environment=soak.environment)
    async with open_raw(server.port, receive_buffer_bytes=NARROW_BYTES) as client:
        await client.send(request("subscribe", channel="workflow:soaked"))
        assert (await client.message())["type"] == "response"
        announce(server, "workflow:soaked", *[60_000] * 60)
        await asyncio.to_thread(
            wait_until, lambda: "which reads too slowly" in server.log_text(), timeout_seconds=60, what="the cut"
        )
    soak.holding(server)


async def test_a_connection_that_ended_under_any_server_leaves_nothing_behind() -> None:
    async def send(message: Mapping[str, Any]) -> None:
        """What the server would send."""

    writer = ConnectionWriter(send, Limits(), on_slow=lambda why: None)
    writer.write(Frames([b"{}"]))
    wire = weakref.ref(writer.transport)
    gc.disable()
    try:
        await writer.finished()
        await asyncio.sleep(0)  # The turn of the loop that has ended it holds it until then.
        assert wire() is None
    finally:
        gc.enable()
