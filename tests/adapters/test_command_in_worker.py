"""A command in a real worker process that is killed, or whose run is cancelled."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.adapters.command_runner import FAMILY, wait_for_family
from tests.harness.engine import CeleryWorker, Engine
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until

POOL = "commands"

START = """
from tests.jobs.commands import one_command
result = one_command.start(pool=pool, argv=argv, options=options).workflow_id
"""


@pytest.fixture(scope="module")
def engine(engine_server: MahavishnuServer) -> Iterator[Engine]:
    engine = Engine(engine_server)
    yield engine
    engine.close()
    engine.expire_workers(POOL)


@pytest.fixture(scope="module")
def worker(engine: Engine) -> CeleryWorker:
    # On a busy machine a command may take a while to end. Neither it nor its worker must be killed for that.
    return engine.worker(pool_id=POOL, MAHAVISHNU_CANCEL_GRACE_SECONDS="30")


def start(engine: Engine, *argv: str, **options: Any) -> str:
    return str(engine.execute(START, pool=POOL, argv=argv, options=options))


def test_command_is_killed_with_its_worker_process_and_runs_again(
    engine: Engine, worker: CeleryWorker, tmp_path: Path
) -> None:
    pids, once = tmp_path / "pids", tmp_path / "once"
    script = f"test -e {once} && exit 0; touch {once}; {FAMILY.format(pids=pids)}wait"
    workflow_id = start(engine, "sh", "-c", script)
    family = wait_for_family(pids)
    (child,) = worker.children()
    os.kill(child.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    wait_until(
        lambda: engine.workflow(workflow_id)["status"] == "completed", timeout_seconds=60, what="the second attempt"
    )
    stored = engine.workflow(workflow_id)
    assert stored["failed_attempts"] == [["sh", 1, "lost", "The worker process died"]]
    assert stored["stages"]["sh"]["attempt"] == 2


def test_command_of_a_cancelled_run_ends_and_its_worker_continues(
    engine: Engine, worker: CeleryWorker, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    before = worker.children()
    workflow_id = start(engine, "sh", "-c", FAMILY.format(pids=pids) + "wait")
    family = wait_for_family(pids)
    engine.server.services.cancel_workflow(workflow_id=workflow_id)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    wait_until(lambda: engine.workers(POOL) == ["idle"], timeout_seconds=60, what="an idle worker")
    assert worker.children() == before
