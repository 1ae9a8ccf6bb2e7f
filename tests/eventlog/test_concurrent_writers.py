"""Many processes write at once: the log's order is the order of their commits, and every client hears all in it."""

from __future__ import annotations

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

# Some transactions have several events, some take their time between a change and the commit, some change their mind.
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

# What a reader that asks for `seq > last` sees, over and over: the only order in which nothing can be missed.
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


@pytest.mark.parametrize(("database", "events"), [("postgres", 2000), ("sqlite", 400)])
async def test_four_writers_at_once_are_heard_completely_and_in_the_order_of_their_commits(
    start_server: StartServer, database: str, events: int, tmp_path: Path
) -> None:
    server = start_server(database=database)
    drivers = [server.driver() for _ in range(WRITERS)]
    tail = server.driver()
    stop = tmp_path / "stop"
    async with connect(server) as client, connect(server) as of_one_room:
        await client.subscribe("global")
        await of_one_room.subscribe("pool:pool_0")
        async with recording(client) as record:
            with ThreadPoolExecutor(WRITERS + 1) as threads:
                tailing = threads.submit(tail.execute, _TAIL, stop=str(stop))
                writing = [
                    threads.submit(driver.execute, _WRITE, writer=number, events=events // WRITERS)
                    for number, driver in enumerate(drivers)
                ]
                assert [future.result() for future in writing] == [events // WRITERS] * WRITERS
                stop.touch()
                seen_by_polling = tailing.result()
            in_log = committed(server, "global")
            await record.has_seen("global", in_log[-1][0])
        event = await of_one_room.event()
        await of_one_room.expect_nothing(0.05)
    assert len(in_log) == events
    assert record.seen("global") == in_log
    assert seen_by_polling == [seq for seq, _ in in_log]
    assert (event["event"], event["data"]["pool_id"]) == ("pool.created", "pool_0")
    for number in range(WRITERS):
        ids = [message["data"].get("workflow_id", "") for message, _ in record.events]
        of_writer = [int(id.rsplit("_")[-1]) for id in ids if id.startswith(f"wf_{number}_")]
        assert of_writer == list(range(1, events // WRITERS))


# --- The lock on Postgres --------------------------------------------------------------------------------------------

_CONNECT = "from django.db import connection\nconnection.ensure_connection()"

_ADD_POOL = "from orchestration import services\nservices.create_pool(pool_id=pool_id)"

# Stops when all is written and only the commit is left to do.
_ADD_POOL_AND_COMMIT_WHEN_TOLD = """
import os, time
from django.db import connection
from orchestration import services
connection.ensure_connection()
commit = connection._commit
def commit_when_told():
    open(there, "w").close()
    while not os.path.exists(go):
        time.sleep(0.01)
    commit()
connection._commit = commit_when_told
services.create_pool(pool_id=pool_id)
"""

# Stops when the change is made and its events are not written yet.
_CHANGE_AND_END_WHEN_TOLD = """
import os, time
from django.db import transaction
from orchestration import services
from orchestration.models import Stage
with transaction.atomic():
    exec(change)
    open(there, "w").close()
    while not os.path.exists(go):
        time.sleep(0.01)
"""


class Held:
    """Another process that stops in the middle of a transaction, at the latest to the end of a `with` block.

    Attributes:
        result: What becomes of it, once it goes on.
    """

    def __init__(self, driver: Driver, directory: Path, code: str, **given: str) -> None:
        self._go = directory / f"go-{driver.pid}"
        there = directory / f"there-{driver.pid}"
        self._thread = ThreadPoolExecutor(1)
        self.result = self._thread.submit(driver.execute, code, there=str(there), go=str(self._go), **given)
        wait_until(there.exists, timeout_seconds=TIMEOUT_SECONDS)

    def go_on(self) -> None:
        self._go.touch()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.go_on()
        self._thread.shutdown()


@pytest.fixture
def on_postgres(start_server: StartServer) -> MahavishnuServer:
    server = start_server(database="postgres", started=False)
    server.services.create_pool(pool_id="p")
    return server


def waiting(server: MahavishnuServer, *, lock_type: str) -> int:
    """How many sessions of the server's database wait for a lock of this type."""
    with psycopg.connect(server.database_url, autocommit=True) as admin:
        query = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) "
        query += "WHERE NOT granted AND locktype = %s AND datname = current_database()"
        row = admin.execute(query.encode(), [lock_type]).fetchone()
        assert row is not None
        return int(row[0])


def test_whoever_writes_its_events_first_is_committed_first(on_postgres: MahavishnuServer, tmp_path: Path) -> None:
    before = committed(on_postgres, "global")
    first, second = on_postgres.driver(), on_postgres.driver()
    # The first may hold the log for five seconds, and none of them is for the second to start.
    second.execute(_CONNECT)
    with (
        ThreadPoolExecutor(1) as threads,
        Held(first, tmp_path, _ADD_POOL_AND_COMMIT_WHEN_TOLD, pool_id="first") as held,
    ):
        adding = threads.submit(second.execute, _ADD_POOL, pool_id="second")
        # Its numbers are higher: a reader that saw them now would never see the lower ones.
        wait_until(lambda: waiting(on_postgres, lock_type="advisory") == 1, timeout_seconds=TIMEOUT_SECONDS)
        assert committed(on_postgres, "global") == before
        held.go_on()
        held.result.result()
        adding.result()
    in_order = [committed(on_postgres, f"pool:{pool_id}")[0] for pool_id in ("first", "second")]
    assert committed(on_postgres, "global") == before + in_order


def test_a_writer_that_stops_while_it_holds_the_log_does_not_hold_up_the_others_for_long(
    on_postgres: MahavishnuServer, tmp_path: Path
) -> None:
    stopped, other = on_postgres.driver(), on_postgres.driver()
    with Held(stopped, tmp_path, _ADD_POOL_AND_COMMIT_WHEN_TOLD, pool_id="stopped") as held:
        # It comes back although the one that holds the log does not go on.
        other.execute(_ADD_POOL, pool_id="other")
        held.go_on()
        with pytest.raises(ServiceCallError) as refusal:
            held.result.result()
    assert "idle-in-transaction timeout" in refusal.value.message
    assert len(committed(on_postgres, "pool:other")) == 1
    assert committed(on_postgres, "pool:stopped") == []
    stopped.execute(_ADD_POOL, pool_id="stopped")
    assert len(committed(on_postgres, "pool:stopped")) == 1


def test_constraints_that_wait_for_the_commit_do_not_wait_for_it_under_the_log_s_lock(
    on_postgres: MahavishnuServer, tmp_path: Path
) -> None:
    services = on_postgres.services
    services.register_worker(worker_id="w", pool_id="p")
    services.create_workflow(workflow_id="a", adapter="python", prompt="", stages=["only"], pool_id="p")
    naming, removing = on_postgres.driver(), on_postgres.driver()
    # That the worker is there is checked at the end; and it is just being removed.
    name_it = "Stage.objects.update(worker_id='w'); services.start_workflow(workflow_id='a')"
    remove_it = "services.remove_worker(worker_id='w')"
    with (
        Held(naming, tmp_path, _CHANGE_AND_END_WHEN_TOLD, change=name_it) as names,
        Held(removing, tmp_path, _CHANGE_AND_END_WHEN_TOLD, change=remove_it) as removes,
    ):
        names.go_on()
        wait_until(lambda: waiting(on_postgres, lock_type="transactionid") == 1, timeout_seconds=TIMEOUT_SECONDS)
        removes.go_on()
        removes.result.result()
        with pytest.raises(ServiceCallError) as refusal:
            names.result.result()
    assert refusal.value.class_name == "IntegrityError"
