"""Background checkpoints of SQLite's write-ahead log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import connection

from orchestration import services
from realtime.eventlog.wal_checkpoint import (
    LONGEST_PAUSE_SECONDS,
    SHORTEST_PAUSE_SECONDS,
    WORTHWHILE_PAGES,
    checkpoint,
    checkpoint_periodically,
    next_pause_seconds,
)
from tests.harness.health import read_health
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until


@pytest.mark.django_db(transaction=True)
def test_checkpoint_copies_committed_pages_to_the_database_file() -> None:
    path, pool_id = Path(connection.settings_dict["NAME"]), uuid4().hex
    # Start with an empty log: at 4,000 pages, which earlier tests may almost have written, SQLite copies them itself.
    checkpoint()
    services.create_pool(pool_id=pool_id)
    assert pool_id.encode() not in path.read_bytes()
    pages = checkpoint()
    assert pages > 0
    assert checkpoint() == pages
    assert pool_id.encode() in path.read_bytes()


def test_server_checkpoints_periodically(server: MahavishnuServer) -> None:
    path, pool_id = Path(server.database_url.removeprefix("sqlite:///")), uuid4().hex
    server.services.create_pool(pool_id=pool_id)
    assert read_health(server)[0] == 200
    wait_until(lambda: pool_id.encode() in path.read_bytes(), timeout_seconds=20, what="the pool in the file")


def test_next_pause_doubles_while_the_log_is_short() -> None:
    pauses = [SHORTEST_PAUSE_SECONDS]
    for _ in range(6):
        pauses.append(next_pause_seconds(pauses[-1], WORTHWHILE_PAGES - 1))
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 4.0, LONGEST_PAUSE_SECONDS]
    assert next_pause_seconds(LONGEST_PAUSE_SECONDS, WORTHWHILE_PAGES) == SHORTEST_PAUSE_SECONDS


@pytest.mark.both_databases
async def test_checkpoint_periodically_returns_at_once_on_postgres() -> None:
    task = asyncio.create_task(checkpoint_periodically())
    done, _ = await asyncio.wait([task], timeout=SHORTEST_PAUSE_SECONDS / 2)
    assert (task in done) is (connection.vendor != "sqlite")
    task.cancel()
