"""Postgres itself is restarted under a running engine: that costs time, and nothing else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.broadcast.change_stream import committed
from tests.harness.client import Client, Message, connect
from tests.harness.engine import CeleryWorker, Engine, Part, engine_of
from tests.harness.engine_fixtures import JOBS, LOOKS_OFTEN, Files
from tests.harness.fixtures import StartServer
from tests.harness.postgres import Postgres
from tests.harness.server import migrate
from tests.harness.services import PROJECT_DIR
from tests.harness.waiting import wait_until
from tests.worker.run_events import eventually, in_short, told, until

POOL = "restarts"
WITHIN_SECONDS = 30

RECONNECT = "from django.db import connection\nconnection.close()"

METRICS = "from tests.models import counter_audit\nresult = counter_audit.counted(pool_id)"

A_RUN = [
    "workflow.created",
    "workflow.started",
    "workflow.stage_started first",
    "workflow.stage_completed first",
    "workflow.stage_started talk",
    "workflow.stage_log talk",
    "workflow.stage_progress talk",
    "workflow.stage_completed talk",
    "workflow.stage_started third",
    "workflow.stage_completed third",
    "workflow.completed",
]


@pytest.fixture
def cluster() -> Iterator[Postgres]:
    """A Postgres of this test alone, which it may stop and kill."""
    postgres = Postgres()
    yield postgres
    postgres.close()


@pytest.fixture
def on_cluster(cluster: Postgres, start_server: StartServer, tmp_path: Path) -> Iterator[Engine]:
    url = cluster.create_database()
    migrate(var_dir=tmp_path, database_url=url)
    yield from engine_of(start_server(database_url=url, environment={**JOBS, **LOOKS_OFTEN}))


class Restarts:
    """An engine at work, and every event of it that a client was told.

    Args:
        client: subscribed to `global`.
    """

    def __init__(self, engine: Engine, cluster: Postgres, client: Client) -> None:
        self.engine = engine
        self.cluster = cluster
        self.client = client
        self.scheduler: Part = engine.scheduler()
        self.worker: CeleryWorker = engine.worker(pool_id=POOL)
        self.events: list[Message] = []

    async def run(
        self, workflow_id: str, files: Files, *, take_away: Callable[[], None], goes_on_without: bool
    ) -> None:
        """Take the database away in the middle of a stage until all have noticed, and see the run to its end.

        Args:
            goes_on_without: whether the stage goes on, speaks and ends meanwhile, or waits until all is well again.
        """
        noticed = self._complaints()
        self.engine.start("talkative", pool=POOL, workflow_id=workflow_id, **files.params)
        await eventually(lambda: files.journal() == ["begins"], what="the stage begins")
        await asyncio.to_thread(take_away)
        if goes_on_without:
            files.open_gate()
            await eventually(lambda: files.journal()[1:] == ["goes on"], what="the stage goes on")
        await eventually(
            lambda: all(now > before for now, before in zip(self._complaints(), noticed, strict=True)),
            what="the complaints of the scheduler and the keeper",
        )
        await asyncio.to_thread(self.cluster.start)
        files.open_gate()
        self.engine.execute(RECONNECT)
        self.events += await until(self.client, "workflow.completed")
        assert files.journal() == ["begins", "goes on", "has read 1 results"]

    def _complaints(self) -> list[int]:
        return [part.log_text().count("database does not answer") for part in (self.scheduler, self.worker)]

    def of(self, workflow_id: str) -> list[Message]:
        return [event for event in self.events if event["data"].get("workflow_id") == workflow_id]


async def test_a_database_that_is_stopped_and_killed_in_the_middle_of_stages_loses_and_doubles_nothing(
    on_cluster: Engine, cluster: Postgres, tmp_path: Path
) -> None:
    engine = on_cluster
    async with connect(engine.server) as client:
        await client.subscribe("global")
        work = Restarts(engine, cluster, client)
        for number, (take_away, goes_on_without) in enumerate(
            [(cluster.stop_at_once, False), (cluster.stop_at_once, True), (cluster.kill, False), (cluster.kill, True)]
        ):
            workflow_id, directory = f"wf_{number}", tmp_path / f"{number}"
            directory.mkdir()
            await work.run(workflow_id, Files(directory), take_away=take_away, goes_on_without=goes_on_without)
            assert in_short(work.of(workflow_id)) == A_RUN
            stored = engine.workflow(workflow_id)
            assert (stored["status"], stored["failed_attempts"]) == ("completed", [])
        metrics = engine.execute(METRICS, pool_id=POOL)
        while told(work.events[-1]) != ("pool.status_changed", {"pool_id": POOL, "status": metrics}):
            work.events.append(await client.event())
        await client.expect_nothing(0.5)
    assert [(event["seq"], event["id"]) for event in work.events] == committed(engine.server, "global")
    engine.assert_adds_up(POOL)


def test_who_watches_a_run_goes_on_when_the_database_is_back(
    on_cluster: Engine, cluster: Postgres, tmp_path: Path
) -> None:
    command = [sys.executable, "manage.py", "run_workflow", "demo_failure", "--watch", "--pool", POOL]
    shown = tmp_path / "shown"
    with shown.open("wb") as out:
        watching = subprocess.Popen(
            command, cwd=PROJECT_DIR, env=on_cluster.server.environment, stdout=out, stderr=subprocess.DEVNULL
        )
    try:
        wait_until(lambda: " is started" in shown.read_text(), timeout_seconds=WITHIN_SECONDS, what="the run")
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
        on_cluster.server.services.cancel_workflow(workflow_id=workflow_id, reason="Seen enough")
        assert watching.wait(WITHIN_SECONDS) == 4
    finally:
        watching.kill()
        watching.wait()
    assert shown.read_text().splitlines() == [
        f"{workflow_id} is started",
        "Database unavailable; waiting",
        "Database available again",
        f"{workflow_id} is cancelled: Seen enough",
    ]
