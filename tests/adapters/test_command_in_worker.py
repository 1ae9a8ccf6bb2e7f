"""A command in a real worker process that is killed, or whose run is cancelled."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import psutil

from tests.adapters.command_runner import FAMILY, wait_for_family
from tests.harness.engine import CeleryWorker, Engine
from tests.harness.waiting import wait_until

START = """
from tests.jobs.commands import one_command
result = one_command.start(pool=pool, argv=argv, options=options).workflow_id
"""

END_PAUSE = """
from orchestration.db.clock import database_now
from orchestration.models import Stage
result = Stage.objects.filter(workflow_id=workflow_id, held=True).update(refused_until=database_now())
"""


def start(engine: Engine, pool: str, *argv: str, **options: Any) -> str:
    return str(engine.execute(START, pool=pool, argv=argv, options=options))


def test_command_is_killed_with_its_worker_process_and_runs_again(
    engine: Engine, patient_worker: CeleryWorker, tmp_path: Path
) -> None:
    pids, once = tmp_path / "pids", tmp_path / "once"
    script = f"test -e {once} && exit 0; touch {once}; {FAMILY.format(pids=pids)}wait"
    workflow_id = start(engine, patient_worker.pool_id, "sh", "-c", script)
    family = wait_for_family(pids)
    (child,) = patient_worker.children()
    os.kill(child.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    wait_until(
        lambda: engine.workflow(workflow_id)["status"] == "completed", timeout_seconds=60, what="the second attempt"
    )
    stored = engine.workflow(workflow_id)
    assert stored["failed_attempts"] == [["sh", 1, "lost", "The worker process died"]]
    assert stored["stages"]["sh"]["attempt"] == 2


def test_command_whose_directory_is_missing_waits_for_it(
    engine: Engine, patient_worker: CeleryWorker, tmp_path: Path
) -> None:
    folder = tmp_path / "checkout"
    workflow_id = start(engine, patient_worker.pool_id, "pwd", cwd=str(folder))
    needs = f"directory {folder}"
    wait_until(
        lambda: engine.workflow(workflow_id)["stages"]["pwd"]["held"],
        timeout_seconds=60,
        what="the check of the worker",
    )
    assert needs in patient_worker.log_text()
    folder.mkdir()
    # The next offer is due after 10 s. These are over now.
    assert engine.execute(END_PAUSE, workflow_id=workflow_id) == 1
    wait_until(lambda: engine.workflow(workflow_id)["status"] == "completed", timeout_seconds=60, what="the attempt")
    stored = engine.workflow(workflow_id)
    assert stored["failed_attempts"] == []
    assert stored["result"]["final_output"]["stdout"] == f"{folder}\n"


def test_command_of_a_cancelled_run_ends_and_its_worker_continues(
    engine: Engine, patient_worker: CeleryWorker, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    before = patient_worker.children()
    workflow_id = start(engine, patient_worker.pool_id, "sh", "-c", FAMILY.format(pids=pids) + "wait")
    family = wait_for_family(pids)
    engine.server.services.cancel_workflow(workflow_id=workflow_id)
    _, alive = psutil.wait_procs(family, timeout=60)
    assert alive == []
    wait_until(lambda: engine.workers(patient_worker.pool_id) == ["idle"], timeout_seconds=60, what="an idle worker")
    assert patient_worker.children() == before
