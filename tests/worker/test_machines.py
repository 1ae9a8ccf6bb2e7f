"""Several machines: clocks that differ, and workers that are started with unsupported options."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import psutil
import pytest

from tests.harness.client import connect
from tests.harness.engine import Engine, EngineProcess, engine_of
from tests.harness.engine_fixtures import JOBS, LEASE_SECONDS, SHORT_LEASE, Files
from tests.harness.fixtures import StartServer
from tests.harness.programs import run_to_end
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import eventually
from tests.worker import scheduler_with_wrong_clock
from tests.worker.run_events import RUN_AGAIN, events_until_end, outline


@pytest.fixture
def on_postgres(start_server: StartServer) -> Iterator[Engine]:
    yield from engine_of(start_server(database="postgres", environment={**JOBS, **SHORT_LEASE}))


@pytest.mark.chaos
async def test_clocks_that_differ_by_a_minute_expire_no_lease(on_postgres: Engine, files: Files) -> None:
    engine = on_postgres
    others = [
        EngineProcess(engine.server, scheduler_with_wrong_clock.__name__, str(seconds), name=f"scheduler{seconds}")
        for seconds in (-60, 60)
    ]
    try:
        worker = engine.worker(pool_id="clocks")
        async with connect(engine.server) as client:
            await client.subscribe("workflow:wf_clocks")
            engine.start("gated", pool="clocks", workflow_id="wf_clocks", **files.params)
            await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
            for other in others:
                await eventually(lambda other=other: "Scheduler started" in other.log_text(), what="a scheduler")  # type: ignore[misc]
            # Longer than a lease lasts: a comparison of clocks would have expired it.
            assert outline(await client.events(6)) == RUN_AGAIN[:6]
            await client.expect_nothing(LEASE_SECONDS + 1)
            (child,) = worker.children()
            child.kill()
            await eventually(lambda: len(files.journal()) == 2, what="the stage begins again")
            files.open_gate()
            events = await events_until_end(client)
        assert outline(events) == RUN_AGAIN[6:]
        engine.start("retried", pool="clocks", workflow_id="wf_retries", succeeds_at=3)
        await eventually(lambda: engine.workflow("wf_retries")["status"] == "completed", what="the retries")
        engine.assert_counters_match("clocks")
    finally:
        for other in others:
            other.close()


START_EACH = """
# Load the code once: each worker is a fork.
import json, os, sys
import celery.bin.worker
import django
from celery.__main__ import main
django.setup()
for options in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        sys.argv = ["celery", "-A", "mahavishnu_site", "-q", "worker", *options]
        main()
    print("exit code", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=sys.stderr, flush=True)
"""


def test_workers_with_unsupported_options_exit_with_the_reason(engine_server: MahavishnuServer) -> None:
    reasons = {
        ("-Q", "one,two"): "Unsupported queues ['one', 'two']: a worker serves one pool, such as `--queues local`.",
        ("-Q", "no such id"): "Unsupported queues ['no such id']: a worker serves one pool, such as `--queues local`.",
        ("-Q", "one", "-P", "solo"): "Unsupported pool implementation: use `--pool prefork`, so that hung stages can "
        "be killed.",
    }
    done = run_to_end("-c", START_EACH, json.dumps(list(reasons)), environment=engine_server.environment)
    *outputs, rest = done.stderr.split("exit code 1\n")
    assert rest == ""
    for (options, reason), output in zip(reasons.items(), outputs, strict=True):
        assert f"{reason}\n" in output, options


@pytest.mark.chaos
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_machine_that_sleeps_loses_no_stage(start_server: StartServer, files: Files, database: str) -> None:
    """Suspend a worker and a scheduler together, for longer than a lease lasts, as a laptop lid does."""
    engine = Engine(start_server(database=database, environment={**JOBS, **SHORT_LEASE}))
    try:
        scheduler, worker = engine.scheduler(), engine.worker(pool_id="asleep", concurrency=2)
        async with connect(engine.server) as client:
            await client.subscribe("workflow:wf_asleep")
            engine.start("gated", pool="asleep", workflow_id="wf_asleep", **files.params)
            await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
            # The grace period after the start of the scheduler must have passed.
            await asyncio.sleep(LEASE_SECONDS)
            for _ in range(2):
                thaw = worker.freeze()
                psutil.Process(scheduler.pid).suspend()
                await asyncio.sleep(1.5 * LEASE_SECONDS)
                psutil.Process(scheduler.pid).resume()
                thaw()
                await asyncio.sleep(LEASE_SECONDS / 2)
            files.open_gate()
            await events_until_end(client)
        assert engine.workflow("wf_asleep")["failed_attempts"] == []
        assert files.journal() == ["begins 1 wf_asleep/gate", "ends 1"]
        assert "was suspended or waited" in scheduler.log_text()
    finally:
        engine.close()
