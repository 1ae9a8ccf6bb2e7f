"""A command in a real worker process, which is killed under it, or told that its run has ended."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.harness.engine import CeleryWorker, Engine
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until

POOL = "commands"

START = """
from tests.jobs.commands import one_command
result = one_command.start(pool=pool, argv=argv, options=options).workflow_id
"""

# A child in the same group, one in a session of its own, and one whose parent has ended already.
FAMILY = (
    "sleep 600 & echo $! >> {pids}; setsid sleep 600 & echo $! >> {pids}; "
    "(sleep 600 & echo $! >> {pids}); echo $$ >> {pids}; wait"
)


@pytest.fixture(scope="module")
def engine(engine_server: MahavishnuServer) -> Iterator[Engine]:
    engine = Engine(engine_server)
    yield engine
    engine.close()
    engine.forget_workers(POOL)


@pytest.fixture(scope="module")
def worker(engine: Engine) -> CeleryWorker:
    # A command that ends when it is asked to is not to be killed, nor its worker, on a machine that is busy.
    return engine.worker(pool_id=POOL, MAHAVISHNU_CANCEL_GRACE_SECONDS="30")


def start(engine: Engine, *argv: str, **options: Any) -> str:
    return str(engine.execute(START, pool=POOL, argv=argv, options=options))


def family_of(pids: Path) -> list[psutil.Process]:
    """The four processes of the family, once there are as many."""
    wait_until(
        lambda: pids.exists() and len(pids.read_text().split()) == 4, timeout_seconds=60, what="all of the family"
    )
    return [psutil.Process(int(pid)) for pid in pids.read_text().split()]


def test_a_command_ends_with_the_process_that_ran_it_and_runs_again(
    engine: Engine, worker: CeleryWorker, tmp_path: Path
) -> None:
    pids, once = tmp_path / "pids", tmp_path / "once"
    script = f"test -e {once} && exit 0; touch {once}; {FAMILY.format(pids=pids)}"
    workflow_id = start(engine, "sh", "-c", script)
    family = family_of(pids)
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


def test_a_command_of_a_cancelled_run_ends_and_its_worker_goes_on(
    engine: Engine, worker: CeleryWorker, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    before = worker.children()
    workflow_id = start(engine, "sh", "-c", FAMILY.format(pids=pids))
    family = family_of(pids)
    engine.server.services.cancel_workflow(workflow_id=workflow_id)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    wait_until(lambda: engine.workers(POOL) == ["idle"], timeout_seconds=60, what="an idle worker")
    assert worker.children() == before
