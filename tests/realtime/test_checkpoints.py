"""SQLite's write-ahead log: what is in it gets into the file beside the commits."""

from __future__ import annotations

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
from django.db import connection

from orchestration import services
from realtime.checkpoints import INTERVAL_SECONDS, checkpoint, checkpoint_for_ever
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until
from tests.realtime.health import read_health


@pytest.mark.django_db(transaction=True)
def test_what_is_committed_gets_into_the_file() -> None:
    path, pool_id = Path(connection.settings_dict["NAME"]), uuid4().hex
    services.create_pool(pool_id=pool_id)
    assert pool_id.encode() not in path.read_bytes()
    checkpoint()
    assert pool_id.encode() in path.read_bytes()


def test_a_server_sees_to_it(server: MahavishnuServer) -> None:
    path, pool_id = Path(server.database_url.removeprefix("sqlite:///")), uuid4().hex
    server.services.create_pool(pool_id=pool_id)
    assert read_health(server)[0] == 200
    wait_until(lambda: pool_id.encode() in path.read_bytes(), timeout_seconds=20, what="the pool in the file")


@pytest.mark.both_databases
async def test_only_sqlite_has_such_a_log() -> None:
    task = asyncio.create_task(checkpoint_for_ever())
    done, _ = await asyncio.wait([task], timeout=INTERVAL_SECONDS / 2)
    assert (task in done) is (connection.vendor != "sqlite")
    task.cancel()
