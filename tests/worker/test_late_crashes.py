"""Crashes that can be recorded only after an outage of the database, when the next process fills the slot."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.db import OperationalError, connection

from orchestration.processes import kill_tree
from orchestration.worker import child
from orchestration.worker.slot_table import RunningAttempt, SlotTable

if TYPE_CHECKING:
    from orchestration.models import Stage
    from orchestration.worker.supervisor.supervisor import WorkerSupervisor

StartProcess = Callable[[], "subprocess.Popen[bytes]"]

PROCESS = "the test process"

# An outage closes the connection, which would end the transaction of a test.
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
def start_process() -> Iterator[StartProcess]:
    """Return a function that starts a process, which leads a group: the child of a worker, or a program of a stage."""
    started = []

    def start() -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(["sleep", "600"], start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        kill_tree(process.pid)
        process.wait()


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> WorkerSupervisor:
    """Return a supervisor of this process with one slot."""
    # Django must be set up before.
    from orchestration.worker.supervisor.supervisor import WorkerSupervisor

    table = SlotTable.create()
    table.size = 1
    monkeypatch.setattr(os, "getppid", os.getpid)
    return WorkerSupervisor(table, parent_pid=os.getpid(), process=PROCESS, name="late", pool_id="pool")


def claim(supervisor: WorkerSupervisor, process: subprocess.Popen[bytes], workflow_id: str) -> Stage:
    """Let a child claim and run the stage of a new run."""
    from orchestration import services
    from tests.services import one_stage_runs

    slot = supervisor._table.slot(0)
    stage = one_stage_runs.start_run(workflow_id)
    slot.running = RunningAttempt(stage.pk, 1, time.monotonic_ns(), timeout_ms=0, pid=process.pid)
    assert services.claim_stage(stage.pk, 1, slot=services.Slot(worker_id=slot.worker_id, process=PROCESS))
    return stage


def is_recorded(supervisor: WorkerSupervisor) -> bool:
    """Return whether no crash waits to be recorded: the next process may claim."""
    return supervisor._table.slot(0).running is None


def check_during_an_outage(supervisor: WorkerSupervisor) -> None:
    def fail(*_: object) -> None:
        raise OperationalError("the connection is closed")

    with connection.execute_wrapper(fail):
        supervisor.check()


def die_idle_during_an_outage(supervisor: WorkerSupervisor, process: subprocess.Popen[bytes]) -> None:
    """Let a process fill the slot, and die while it runs nothing."""
    supervisor._table.slot(0).pid = process.pid
    supervisor.check()
    process.kill()
    process.wait()
    check_during_an_outage(supervisor)


@pytest.mark.parametrize("reason", ["timed_out", "lost"])
def test_crash_that_is_recorded_late_keeps_its_reason_and_spares_the_next_process(
    supervisor: WorkerSupervisor, start_process: StartProcess, reason: str
) -> None:
    from orchestration.models import FailedAttempt

    slot = supervisor._table.slot(0)
    process, program = start_process(), start_process()
    slot.pid = process.pid
    supervisor.check()
    stage = claim(supervisor, process, "wf_crashed")
    slot.track_process_group(program.pid)
    if reason == "timed_out":
        slot.running = RunningAttempt(stage.pk, 1, started_ns=1, timeout_ms=1, pid=process.pid)
    else:
        process.kill()
        process.wait()

    check_during_an_outage(supervisor)
    process.wait(10)
    program.wait(10)
    assert slot.process_group == 0

    # The next process takes the slot after some seconds: Celery kills one that waits for longer. It claims nothing yet.
    successor, its_program = start_process(), start_process()
    slot.pid = successor.pid
    check_during_an_outage(supervisor)
    assert not is_recorded(supervisor)

    supervisor.check()
    assert is_recorded(supervisor)
    assert (slot.pid, FailedAttempt.objects.get().reason) == (successor.pid, reason)
    claim(supervisor, successor, "wf_next")
    slot.track_process_group(its_program.pid)
    for _ in range(2):
        supervisor.check()
    assert (successor.poll(), its_program.poll(), slot.process_group) == (None, None, its_program.pid)


def test_crash_of_an_idle_process_that_is_recorded_late_spares_the_next_process(
    supervisor: WorkerSupervisor, start_process: StartProcess
) -> None:
    slot = supervisor._table.slot(0)
    successor, its_program = start_process(), start_process()
    die_idle_during_an_outage(supervisor, start_process())
    # No attempt is to be recorded, so the next process does not wait.
    slot.pid = successor.pid
    stage = claim(supervisor, successor, "wf_next")
    slot.track_process_group(its_program.pid)
    for _ in range(2):
        supervisor.check()
    stage.refresh_from_db()
    assert (stage.status, stage.attempt) == ("running", 1)
    assert (successor.poll(), its_program.poll(), slot.process_group) == (None, None, its_program.pid)


def test_process_claims_nothing_until_the_crash_of_its_predecessor_is_recorded(
    supervisor: WorkerSupervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = supervisor._table.slot(0)
    slot.worker_id = "late-1"
    monkeypatch.setattr(child, "_child", child._Child(table=supervisor._table, slot=slot, process=PROCESS))
    monkeypatch.setattr(child, "_WAIT_SECONDS", 0)
    slot.running = RunningAttempt(1, 1, started_ns=1, timeout_ms=0, pid=4_000_000)
    assert not child.wait_for_worker(slot)
    slot.running = None
    assert child.wait_for_worker(slot)


def test_clean_up_kills_the_process_of_a_slot_and_its_program(
    supervisor: WorkerSupervisor, start_process: StartProcess
) -> None:
    slot = supervisor._table.slot(0)
    process, program = start_process(), start_process()
    slot.pid = process.pid
    slot.track_process_group(program.pid)
    supervisor.clean_up()
    process.wait(10)
    program.wait(10)


@pytest.mark.parametrize("is_stopping", [True, False], ids=["stopped", "parent killed"])
def test_time_limit_is_recorded_if_the_worker_ends_during_the_outage(
    supervisor: WorkerSupervisor, start_process: StartProcess, monkeypatch: pytest.MonkeyPatch, is_stopping: bool
) -> None:
    from orchestration import services
    from orchestration.models import FailedAttempt, Worker

    slot, process = supervisor._table.slot(0), start_process()
    slot.pid = process.pid
    supervisor.check()
    stage = claim(supervisor, process, "wf")
    slot.running = RunningAttempt(stage.pk, 1, started_ns=1, timeout_ms=1, pid=process.pid)
    check_during_an_outage(supervisor)
    supervisor._table.stopping_since_ns = time.monotonic_ns() if is_stopping else 0
    outages = iter([OperationalError("the connection is closed")])
    leave_pool = services.leave_pool

    def leave_after_an_outage(**arguments: Any) -> bool:
        if error := next(outages, None):
            raise error
        return leave_pool(**arguments)

    monkeypatch.setattr(services, "leave_pool", leave_after_an_outage)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    supervisor.clean_up()
    assert FailedAttempt.objects.get().reason == "timed_out"
    assert Worker.objects.get().status == "offline"


def test_successor_of_an_idle_process_is_killed_for_its_time_limit_during_the_outage(
    supervisor: WorkerSupervisor, start_process: StartProcess
) -> None:
    slot, successor = supervisor._table.slot(0), start_process()
    die_idle_during_an_outage(supervisor, start_process())
    slot.pid = successor.pid
    stage = claim(supervisor, successor, "wf")
    assert supervisor._monitors[0].is_running
    slot.running = RunningAttempt(stage.pk, 1, started_ns=1, timeout_ms=1, pid=successor.pid)
    check_during_an_outage(supervisor)
    successor.wait(timeout=60)
    assert not supervisor._monitors[0].is_running
