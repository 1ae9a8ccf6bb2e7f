"""Concurrent writers: the order of the log is commit order, and clients receive every event in that order."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

import psycopg
import pytest

from tests.broadcast.change_stream import committed, recording
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.services import Driver, ServiceCallError
from tests.harness.waiting import wait_until

WRITERS = 4

TIMEOUT_SECONDS = 40

# Some transactions have several events, some pause between the change and the commit, some roll back.
_WRITE = """
import random, time
from django.db import transaction
from orchestration import services
choose = random.Random(writer)
services.create_pool(pool_id=f"pool_{writer}")
written = 1
while written < events:
    batch = min(choose.choice((1, 1, 2, 5)), events - written)
    with transaction.atomic():
        for number in range(batch):
            services.create_workflow(
                workflow_id=f"wf_{writer}_{written + number}", adapter="python", prompt="", stages=["only"]
            )
        if choose.random() < 0.1:
            time.sleep(choose.uniform(0, 0.01))
        if choose.random() < 0.1:
            transaction.set_rollback(True)
            continue
    written += batch
result = written
"""

# A reader that polls `seq > last` misses no event only if `seq` is commit order.
_TAIL = """
import os
from realtime.models import Event
seen, last = [], 0
while True:
    stopping = os.path.exists(stop)
    new = list(Event.objects.filter(seq__gt=last).order_by("seq").values_list("seq", flat=True))
    seen += new
    last = seen[-1] if seen else 0
    if stopping and not new:
        break
result = seen
"""


@pytest.mark.parametrize(
    ("database", "events"),
    [
        ("postgres", 400),
        ("sqlite", 200),
        pytest.param("postgres", 2000, marks=pytest.mark.chaos),
        pytest.param("sqlite", 1000, marks=pytest.mark.chaos),
    ],
)
async def test_clients_receive_the_events_of_concurrent_writers_in_commit_order(
    start_server: StartServer, database: str, events: int, tmp_path: Path
) -> None:
    server = start_server(database=database)
    drivers = [server.driver() for _ in range(WRITERS)]
    tail = server.driver()
    stop = tmp_path / "stop"
    async with connect(server) as client, connect(server) as pool_client:
        await client.subscribe("global")
        await pool_client.subscribe("pool:pool_0")
        async with recording(client) as record:
            with ThreadPoolExecutor(WRITERS + 1) as threads:
                tailing = threads.submit(tail.execute, _TAIL, stop=str(stop))
                writing = [
                    threads.submit(driver.execute, _WRITE, writer=number, events=events // WRITERS)
                    for number, driver in enumerate(drivers)
                ]
                # Awaited, not `future.result()`: a client that reads nothing for 15 s would be disconnected.
                written = await asyncio.gather(*map(asyncio.wrap_future, writing))
                assert written == [events // WRITERS] * WRITERS
                stop.touch()
                seen_by_polling = await asyncio.wrap_future(tailing)
            in_log = committed(server, "global")
            await record.has_received("global", in_log[-1][0])
        event = await pool_client.event()
        await pool_client.expect_nothing(0.05)
    assert len(in_log) == events
    assert record.received("global") == in_log
    assert seen_by_polling == [seq for seq, _ in in_log]
    assert (event["event"], event["data"]["pool_id"]) == ("pool.created", "pool_0")
    for number in range(WRITERS):
        ids = [message["data"].get("workflow_id", "") for message, _ in record.events]
        of_writer = [int(id.rsplit("_")[-1]) for id in ids if id.startswith(f"wf_{number}_")]
        assert of_writer == list(range(1, events // WRITERS))


# --- The lock on Postgres --------------------------------------------------------------------------------------------

_CONNECT = "from django.db import connection\nconnection.ensure_connection()"

_ADD_POOL = "from orchestration import services\nservices.create_pool(pool_id=pool_id)"

# Pauses after all rows are written, before the commit.
_ADD_POOL_AND_PAUSE = """
import os, time
from django.db import connection
from orchestration import services
connection.ensure_connection()
commit = connection._commit
def commit_when_released():
    open(paused, "w").close()
    while not os.path.exists(release):
        time.sleep(0.01)
    commit()
connection._commit = commit_when_released
services.create_pool(pool_id=pool_id)
"""

# Pauses after the change, before its events are written.
_CHANGE_AND_PAUSE = """
import os, time
from django.db import transaction
from orchestration import services
from orchestration.models import UnmetRequirement
with transaction.atomic():
    exec(change)
    open(paused, "w").close()
    while not os.path.exists(release):
        time.sleep(0.01)
"""


class PausedTransaction:
    """A transaction of another process, paused until `release()` or the end of the `with` block.

    Attributes:
        result: The result of the code, or its error, available after the release.
    """

    def __init__(self, driver: Driver, directory: Path, code: str, **given: str) -> None:
        self._release = directory / f"release-{driver.pid}"
        paused = directory / f"paused-{driver.pid}"
        self._thread = ThreadPoolExecutor(1)
        self.result = self._thread.submit(driver.execute, code, paused=str(paused), release=str(self._release), **given)
        wait_until(paused.exists, timeout_seconds=TIMEOUT_SECONDS)

    def release(self) -> None:
        self._release.touch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()
        self._thread.shutdown()


@pytest.fixture(scope="module")
def on_postgres(start_module_server: StartServer) -> MahavishnuServer:
    """Return a server for its drivers only; each test changes rows that no other test uses."""
    server = start_module_server(database="postgres", started=False)
    server.services.create_pool(pool_id="p")
    return server


def count_waiting(server: MahavishnuServer, *, lock_type: str) -> int:
    """Count the sessions of the server's database that wait for a lock of this type."""
    with psycopg.connect(server.database_url, autocommit=True) as admin:
        query = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) "
        query += "WHERE NOT granted AND locktype = %s AND datname = current_database()"
        row = admin.execute(query.encode(), [lock_type]).fetchone()
        assert row is not None
        return int(row[0])


def test_append_lock_makes_a_second_writer_commit_later(on_postgres: MahavishnuServer, tmp_path: Path) -> None:
    before = committed(on_postgres, "global")
    first, second = on_postgres.driver(), on_postgres.driver()
    # The first writer may hold the lock for five seconds only, so the second connects before that.
    second.execute(_CONNECT)
    with (
        ThreadPoolExecutor(1) as threads,
        PausedTransaction(first, tmp_path, _ADD_POOL_AND_PAUSE, pool_id="first") as paused,
    ):
        adding = threads.submit(second.execute, _ADD_POOL, pool_id="second")
        # The second writer's positions are higher. A reader that saw them now would never see the lower ones.
        wait_until(lambda: count_waiting(on_postgres, lock_type="advisory") == 1, timeout_seconds=TIMEOUT_SECONDS)
        assert committed(on_postgres, "global") == before
        paused.release()
        paused.result.result()
        adding.result()
    in_order = [committed(on_postgres, f"pool:{pool_id}")[0] for pool_id in ("first", "second")]
    assert committed(on_postgres, "global") == before + in_order


def test_append_lock_of_a_stalled_writer_expires(on_postgres: MahavishnuServer, tmp_path: Path) -> None:
    stopped, other = on_postgres.driver(), on_postgres.driver()
    with PausedTransaction(stopped, tmp_path, _ADD_POOL_AND_PAUSE, pool_id="stopped") as paused:
        # The other writer commits although the paused one still holds the lock.
        other.execute(_ADD_POOL, pool_id="other")
        paused.release()
        with pytest.raises(ServiceCallError) as caught:
            paused.result.result()
    assert "idle-in-transaction timeout" in caught.value.message
    assert len(committed(on_postgres, "pool:other")) == 1
    assert committed(on_postgres, "pool:stopped") == []
    stopped.execute(_ADD_POOL, pool_id="stopped")
    assert len(committed(on_postgres, "pool:stopped")) == 1


def test_deferred_constraints_are_checked_before_the_append_lock(on_postgres: MahavishnuServer, tmp_path: Path) -> None:
    services = on_postgres.services
    services.register_worker(worker_id="w", pool_id="p")
    services.create_workflow(workflow_id="a", adapter="python", prompt="", stages=["only"], pool_id="p")
    assigning, removing = on_postgres.driver(), on_postgres.driver()
    # The foreign key to the worker is checked at the end of the transaction, while the worker is being removed.
    assign_worker = "UnmetRequirement.objects.create(worker_id='w', name='x'); services.start_workflow(workflow_id='a')"
    remove_worker = "services.remove_worker(worker_id='w')"
    with (
        PausedTransaction(assigning, tmp_path, _CHANGE_AND_PAUSE, change=assign_worker) as assignment,
        PausedTransaction(removing, tmp_path, _CHANGE_AND_PAUSE, change=remove_worker) as removal,
    ):
        assignment.release()
        wait_until(lambda: count_waiting(on_postgres, lock_type="transactionid") == 1, timeout_seconds=TIMEOUT_SECONDS)
        removal.release()
        removal.result.result()
        with pytest.raises(ServiceCallError) as caught:
            assignment.result.result()
    assert caught.value.class_name == "IntegrityError"
