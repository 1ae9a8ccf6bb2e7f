"""Processes that stages start with `multiprocessing`."""

from __future__ import annotations

import os
import signal
from typing import Any

import psutil
import pytest

from tests.harness.engine import Engine
from tests.harness.waiting import wait_until

START = """
from tests.jobs import subprocesses
result = getattr(subprocesses, name).start(prompt, pool=pool).workflow_id
"""


def run(engine: Engine, name: str, *, pool: str, prompt: str = "") -> dict[str, Any]:
    """Run a workflow of `tests.jobs.subprocesses`, and return its output of each stage."""
    workflow_id = engine.execute(START, name=name, pool=pool, prompt=prompt)
    wait_until(
        lambda: engine.workflow(workflow_id)["status"] != "running", timeout_seconds=60, what="the end of the run"
    )
    stored = engine.workflow(workflow_id)
    assert stored["status"] == "completed", stored["error"]
    return {name: stage["result"]["output"] for name, stage in stored["stages"].items()}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_stage_can_start_processes_with_every_method(engine: Engine, shared_pool: str, method: str) -> None:
    assert run(engine, "computed", pool=shared_pool, prompt=method) == {"compute": [[0, 1, 4, 9], [0, 1, 4, 9]]}


@pytest.mark.both_databases
def test_forked_process_reports_on_a_new_database_connection(engine: Engine, shared_pool: str) -> None:
    assert run(engine, "reported_by_a_fork", pool=shared_pool) == {
        "fork_and_report": [0, [False, []]],
        "fork_and_report_on_a_loop": [0, [False, ["fork_and_report"]]],
    }


def test_processes_that_a_stage_left_are_killed_with_their_worker_process(engine: Engine, pool: str) -> None:
    worker = engine.worker(pool_id=pool)
    first = left_processes(engine, pool)
    (child,) = worker.children()
    os.kill(child.pid, signal.SIGKILL)
    assert psutil.wait_procs(first, timeout=60)[1] == []
    second = left_processes(engine, pool)
    assert worker.terminate() == 0
    assert psutil.wait_procs(second, timeout=60)[1] == []


def left_processes(engine: Engine, pool: str) -> list[psutil.Process]:
    return [psutil.Process(pid) for pid in run(engine, "leaving_processes", pool=pool)["leave_processes"]]
