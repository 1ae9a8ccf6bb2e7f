"""Workers that are replaced one after another while runs continue: nothing fails, and nothing runs twice."""

from __future__ import annotations

import contextlib
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final

import psutil
import pytest

from orchestration.processes import process_tree
from tests.harness.engine import CeleryWorker, Engine
from tests.harness.engine_fixtures import FAST_POLLING, JOBS
from tests.harness.fixtures import StartServer
from tests.harness.waiting import wait_until

RESTARTS: Final = 10
RUNS: Final = 50
LONG_STAGE_SECONDS: Final = 60
PAUSE_SECONDS: Final = 0.1
POOL: Final = "deployed"

ENVIRONMENT: Final[dict[str, Any]] = {**JOBS, **FAST_POLLING, "MAHAVISHNU_SHUTDOWN_GRACE_SECONDS": "30"}

WITHIN_SECONDS: Final = 300

STATE: Final = """
from orchestration.models import FailedAttempt, Stage, Workflow
result = {
    "unfinished": Workflow.objects.filter(finished_at=None).count(),
    "statuses": list(Workflow.objects.values_list("status", flat=True).distinct()),
    "reasons": sorted(set(FailedAttempt.objects.values_list("stage__name", "reason"))),
    "lost": list(Stage.objects.exclude(lost_attempts=0).values_list("workflow_id", "name")),
}
"""


@pytest.mark.chaos
@pytest.mark.parametrize("signalled", ["worker", "all its processes"])
@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_rolling_deploy_fails_nothing_and_runs_nothing_twice(
    start_server: StartServer, tmp_path: Path, database: str, signalled: str, capsys: pytest.CaptureFixture[str]
) -> None:
    server = start_server(database=database, environment=ENVIRONMENT)
    engine = Engine(server)
    journal, checkpoint = tmp_path / "journal", tmp_path / "checkpoint"
    began = time.monotonic()
    try:
        engine.scheduler()
        workers = [deploy(engine, release) for release in ("a", "b")]
        until = round(LONG_STAGE_SECONDS / PAUSE_SECONDS)
        long: dict[str, Any] = {"checkpoint": str(checkpoint), "until": until, "pause_seconds": PAUSE_SECONDS}
        long_run = engine.start("counting", pool=POOL, **long)
        for number in range(RESTARTS):
            for _ in range(RUNS // RESTARTS):
                engine.start("short_stages", pool=POOL, seconds=0.5, journal=str(journal))
            time.sleep(LONG_STAGE_SECONDS / RESTARTS / 2)
            stop(workers[number % 2], signalled)
            workers[number % 2] = deploy(engine, f"{number}")
        wait_until(
            lambda: engine.execute(STATE)["unfinished"] == 0,
            timeout_seconds=WITHIN_SECONDS,
            what=lambda: f"the end of all runs: {engine.execute(STATE)}",
        )
        state = engine.execute(STATE)
        assert (state["statuses"], state["lost"]) == (["completed"], [])
        assert state["reasons"] == [["checkpoint", "released"]]
        executed = Counter(line.split()[0] for line in journal.read_text().splitlines())
        assert (len(executed), set(executed.values())) == (RUNS, {1})
        assert int(checkpoint.read_text()) == until
        stored = engine.workflow(long_run)
        assert stored["result"]["final_output"] == until
        engine.assert_counters_match(POOL)
    finally:
        engine.close()
    with capsys.disabled():
        attempts = stored["stages"]["checkpoint"]["attempt"]
        seconds = time.monotonic() - began
        print(f"\n{database}, SIGTERM to {signalled}: {RUNS} runs, a stage with {attempts} attempts, {seconds:.0f} s")


def deploy(engine: Engine, release: str) -> CeleryWorker:
    return engine.begin_worker(pool_id=POOL, concurrency=2, MAHAVISHNU_RELEASE=release)


def stop(worker: CeleryWorker, signalled: str) -> None:
    """Stop a worker as systemd does, by its `KillMode` mixed or control-group."""
    processes = process_tree(worker.pid) if signalled == "all its processes" else [psutil.Process(worker.pid)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    wait_until(lambda: not worker.is_alive(), timeout_seconds=WITHIN_SECONDS, what=worker.log_text)
