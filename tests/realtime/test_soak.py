"""Thousands of clients come and go, and the server process holds no more than before they came.

`SOAK_CONNECTS=20000 make test ARGS=tests/realtime/test_soak.py` lets more of them come than the run of all tests does.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.realtime.soaking import Soak

CONNECTS = int(os.environ.get("SOAK_CONNECTS", "2000"))
MIN_CONNECTS_PER_SECOND = 50

WARM_UP_CONNECTS = 1000

# However many come and go: Python leaves cycles of objects uncollected until there are as many as a quarter of all
# others. What is kept for good shows in the counts first.
MAX_MORE_MEMORY_BYTES = 16 * 1024 * 1024

# Timers that were cancelled, of which asyncio keeps up to a hundred and both ends of what each refers to.
MAX_MORE_OBJECTS = 200
MAX_MORE_MEMORY_BLOCKS = 1000

# The threads that read the database start one by one, and each opens its file and the log of that.
DATABASE_THREADS = 4
MAX_FILES_OF_ONE_THREAD = 3


@pytest.mark.timeout(60 + CONNECTS / MIN_CONNECTS_PER_SECOND)
def test_clients_that_have_come_and_gone_leave_nothing_behind(
    server: MahavishnuServer, start_server: StartServer, tmp_path: Path
) -> None:
    soak = Soak(tmp_path)
    soaked = start_server(beside=server, environment=soak.environment, database_threads=DATABASE_THREADS)
    soak.connect(soaked, WARM_UP_CONNECTS)
    before = soak.holding(soaked)
    soak.connect(soaked, CONNECTS)
    after = soak.holding(soaked)
    print(f"{CONNECTS} connects: {before.summary()} before, {after.summary()} after")
    assert {name: more for name, more in after.growth(before).items() if more > MAX_MORE_OBJECTS} == {}
    assert after.memory_blocks - before.memory_blocks < MAX_MORE_MEMORY_BLOCKS
    assert after.memory_bytes - before.memory_bytes < MAX_MORE_MEMORY_BYTES
    more_threads = after.threads - before.threads
    assert more_threads <= DATABASE_THREADS
    assert after.files - before.files <= more_threads * MAX_FILES_OF_ONE_THREAD
