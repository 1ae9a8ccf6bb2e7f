"""Many machines: another database, clocks that differ, and workers that are started wrongly."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.harness.client import connect
from tests.harness.engine import Engine, Part, engine_of
from tests.harness.engine_fixtures import GIVES_UP_SOON, JOBS, LEASE_SECONDS, Files
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.services import PROJECT_DIR
from tests.worker.run_events import eventually, in_short, until_the_end

SCHEDULER_OF_ANOTHER_TIME = """
import sys
from datetime import timedelta
import django
from django.utils import timezone
now = timezone.now
timezone.now = lambda: now() + timedelta(seconds=float(sys.argv[1]))
django.setup()
from django.core.management import call_command
call_command("run_scheduler")
"""


@pytest.fixture
def on_postgres(start_server: StartServer) -> Iterator[Engine]:
    yield from engine_of(start_server(database="postgres", environment={**JOBS, **GIVES_UP_SOON}))


async def test_machines_whose_clocks_differ_by_a_minute_do_not_notice(on_postgres: Engine, files: Files) -> None:
    engine = on_postgres
    others = [
        Part(engine.server, "-c", SCHEDULER_OF_ANOTHER_TIME, str(seconds), name=f"scheduler{seconds}")
        for seconds in (-60, 60)
    ]
    try:
        worker = engine.worker(pool_id="clocks")
        async with connect(engine.server) as client:
            await client.subscribe("workflow:wf_clocks")
            engine.start("gated", pool="clocks", workflow_id="wf_clocks", **files.params)
            await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
            for other in others:
                await eventually(lambda other=other: "The scheduler runs" in other.log_text(), what="a scheduler")  # type: ignore[misc]
            # Longer than a lease lasts: whoever compared clocks would have given it up.
            assert in_short(await client.events(5))[-1] == "workflow.stage_started gate"
            await client.expect_nothing(LEASE_SECONDS + 1)
            (child,) = worker.children()
            child.kill()
            await eventually(lambda: len(files.journal()) == 2, what="the stage begins again")
            files.open_gate()
            events = await until_the_end(client)
        assert in_short(events) == [
            "workflow.stage_retrying gate 1 lost",
            "workflow.stage_started gate",
            "workflow.stage_completed gate",
            "workflow.stage_started third",
            "workflow.stage_completed third",
            "workflow.completed",
        ]
        engine.start("persistent", pool="clocks", workflow_id="wf_retries", succeeds_at=3)
        await eventually(lambda: engine.workflow("wf_retries")["status"] == "completed", what="the retries")
        engine.assert_adds_up("clocks")
    finally:
        for other in others:
            other.close()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("-Q", "one,two"), "This worker is to serve the queues ['one', 'two']: expected one pool, as in -Q local.\n"),
        (("-Q", "no such id"), "This worker is to serve the queues ['no such id']: expected one pool"),
        (("-Q", "one", "-P", "solo"), "This worker is not to fork: expected -P prefork, so that a stage that hangs"),
    ],
)
def test_a_worker_that_could_not_do_its_work_is_refused(
    engine_server: MahavishnuServer, options: tuple[str, ...], reason: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "mahavishnu_site", "-q", "worker", *options],
        cwd=PROJECT_DIR,
        env=engine_server.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert reason in done.stderr
