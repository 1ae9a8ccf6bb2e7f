"""Postgres is restarted under a running engine: that delays runs and loses nothing."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.broadcast.change_stream import committed
from tests.harness.client import Client, Message, connect
from tests.harness.engine import CeleryWorker, Engine, EngineProcess, engine_of
from tests.harness.engine_fixtures import FAST_POLLING, JOBS, Files
from tests.harness.fixtures import StartServer
from tests.harness.postgres import Postgres
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import MahavishnuServer, migrate
from tests.harness.waiting import eventually, wait_until
from tests.worker.run_events import events_until, is_of_workflow, outline, untimed

POOL = "restarts"
WITHIN_SECONDS = 30

RECONNECT = "from django.db import connection\nconnection.close()"

METRICS = "from tests.models import counter_audit\nresult = counter_audit.counted(pool_id)"

A_RUN = [
    "workflow.created",
    "workflow.started",
    "workflow.stages_queued first",
    "workflow.stage_started first",
    "workflow.stage_completed first",
    "workflow.stage_started report",
    "workflow.stage_log report",
    "workflow.stage_progress report",
    "workflow.stage_completed report",
    "workflow.stage_started third",
    "workflow.stage_completed third",
    "workflow.completed",
]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Postgres]:
    """Start a Postgres for this module alone, which the tests may stop and kill."""
    postgres = Postgres()
    yield postgres
    postgres.close()


@pytest.fixture(scope="module")
def server_on_cluster(
    cluster: Postgres, start_shared_server: StartServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MahavishnuServer]:
    url = cluster.create_database()
    migrate(var_dir=tmp_path_factory.mktemp("cluster"), database_url=url)
    server = start_shared_server(database_url=url, environment={**JOBS, **FAST_POLLING})
    yield server
    server.close()


@pytest.fixture
def on_cluster(server_on_cluster: MahavishnuServer) -> Iterator[Engine]:
    # The driver's connection may be from before an outage.
    server_on_cluster.services_driver.execute(RECONNECT)
    yield from engine_of(server_on_cluster)


class Restarts:
    """A running engine, and every event of it that a client received.

    Args:
        engine: The engine.
        cluster: Its database.
        client: A client that is subscribed to `global`.
    """

    def __init__(self, engine: Engine, cluster: Postgres, client: Client) -> None:
        self.engine = engine
        self.cluster = cluster
        self.client = client
        self.scheduler: EngineProcess = engine.scheduler()
        self.worker: CeleryWorker = engine.worker(pool_id=POOL)
        self.events: list[Message] = []

    async def run(
        self, workflow_id: str, files: Files, *, stop_database: Callable[[], None], stage_continues: bool
    ) -> None:
        """Stop the database during a stage until all parts have logged it, restart it, and wait for the end of the run.

        Args:
            workflow_id: The id of the run.
            files: The gate and the journal of its stage.
            stop_database: Stops the database.
            stage_continues: Whether the stage continues, reports and ends during the outage, or waits for its end.
        """
        # A part that has not noticed the end of the last outage would not report another one.
        await eventually(
            lambda: self._logged("database available again") == self._logged("database unavailable"),
            what="the end of the last outage in the logs of the scheduler and of the worker",
        )
        before_outage = self._logged("database unavailable")
        self.engine.start("reporting", pool=POOL, workflow_id=workflow_id, **files.params)
        await eventually(lambda: files.journal() == ["begins"], what="the stage begins")
        await asyncio.to_thread(stop_database)
        if stage_continues:
            files.open_gate()
            await eventually(lambda: files.journal()[1:] == ["continues"], what="the stage continues")
        await eventually(
            lambda: all(
                now > before for now, before in zip(self._logged("database unavailable"), before_outage, strict=True)
            ),
            what="the outage in the logs of the scheduler and of the worker",
        )
        await asyncio.to_thread(self.cluster.start)
        files.open_gate()
        self.engine.execute(RECONNECT)
        self.events += await events_until(self.client, "workflow.completed")
        assert files.journal() == ["begins", "continues", "has read 1 results"]

    def _logged(self, text: str) -> list[int]:
        """Return how often each part has logged a text, in any case."""
        return [part.log_text().lower().count(text) for part in (self.scheduler, self.worker)]

    def events_of(self, workflow_id: str) -> list[Message]:
        return [event for event in self.events if is_of_workflow(event) and event["data"]["workflow_id"] == workflow_id]


async def test_runs_survive_database_restarts_without_lost_or_duplicate_events(
    on_cluster: Engine, cluster: Postgres, tmp_path: Path
) -> None:
    engine = on_cluster
    earlier = committed(engine.server, "global")
    async with connect(engine.server) as client:
        await client.subscribe("global")
        work = Restarts(engine, cluster, client)
        for number, (stop_database, stage_continues) in enumerate(
            [(cluster.stop_at_once, False), (cluster.stop_at_once, True), (cluster.kill, False), (cluster.kill, True)]
        ):
            workflow_id, directory = f"wf_{number}", tmp_path / f"{number}"
            directory.mkdir()
            await work.run(workflow_id, Files(directory), stop_database=stop_database, stage_continues=stage_continues)
            assert outline(work.events_of(workflow_id)) == A_RUN
            stored = engine.workflow(workflow_id)
            assert (stored["status"], stored["failed_attempts"]) == ("completed", [])
        metrics = engine.execute(METRICS, pool_id=POOL)
        while untimed(work.events[-1]) != ("pool.status_changed", {"pool_id": POOL, "status": metrics}):
            work.events.append(await client.event())
        await client.expect_nothing(0.5)
    assert [(event["seq"], event["id"]) for event in work.events] == committed(engine.server, "global")[len(earlier) :]
    engine.assert_counters_match(POOL)


def test_run_workflow_watch_resumes_after_a_database_restart(
    on_cluster: Engine, cluster: Postgres, tmp_path: Path
) -> None:
    command = [sys.executable, "manage.py", "run_workflow", "demo_failure", "--watch", "--pool", "watched"]
    shown = tmp_path / "shown"
    with shown.open("wb") as out:
        watching = subprocess.Popen(
            command, cwd=PROJECT_DIR, env=on_cluster.server.environment, stdout=out, stderr=subprocess.DEVNULL
        )
    try:
        wait_until(lambda: " started" in shown.read_text(), timeout_seconds=WITHIN_SECONDS, what="the run")
        workflow_id = shown.read_text().split()[0]
        cluster.kill()
        wait_until(
            lambda: "unavailable" in shown.read_text(),
            timeout_seconds=WITHIN_SECONDS,
            what="the watcher's complaint",
        )
        cluster.start()
        wait_until(
            lambda: "available again" in shown.read_text(), timeout_seconds=WITHIN_SECONDS, what="the watcher's relief"
        )
        on_cluster.execute(RECONNECT)
        on_cluster.server.services.cancel_workflow(workflow_id=workflow_id, reason="Seen enough")
        assert watching.wait(WITHIN_SECONDS) == 4
    finally:
        watching.kill()
        watching.wait()
    lines = shown.read_text().splitlines()
    assert re.fullmatch(r"Database unavailable \((Operational|Interface)Error\(.*\)\); retrying", lines.pop(1))
    assert lines == [
        f"{workflow_id} (demo_failure) started: {on_cluster.server.http_url}/workflows/{workflow_id}",
        "Database available again",
        f"{workflow_id} cancelled: Seen enough",
    ]
