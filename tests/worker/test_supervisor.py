"""The supervisor of a worker process that is killed, its slot table, and process trees."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from django.db import IntegrityError, OperationalError, connection

from orchestration.processes import is_alive, kill_tree, process_tree, resume_tree, suspend_tree
from orchestration.worker.slot_table import RunningAttempt, SlotTable
from tests.harness.logs import logged_by
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import clean_environment
from tests.harness.waiting import wait_until

if TYPE_CHECKING:
    from orchestration.worker.supervisor.supervisor import WorkerSupervisor

PROCESS = "the test process"

# Its first thread ends at once, as the first one of a killed process may; the second thread continues.
HALF_DEAD = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.PyDLL(None).pthread_exit(None)
"""

# It forks without pause, so a scan of its descendants is out of date at once.
FORKING = "while :; do (sleep 600 & sleep 600) & sleep 600 & sleep 0.01; done"


@pytest.fixture
def half_dead() -> Iterator[int]:
    """Start a process whose first thread ends at once, and return its id."""
    process = subprocess.Popen([sys.executable, "-c", HALF_DEAD])
    try:
        wait_until(lambda: not is_alive(process.pid), timeout_seconds=60, what="the end of its first thread")
        assert process.poll() is None
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_supervisor_ignores_stop_signals_before_it_loads_other_modules(tmp_path: Path) -> None:
    # Replaces Django, the first module that the supervisor loads.
    (tmp_path / "django.py").write_text(
        "import signal\n"
        "numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)\n"
        "raise SystemExit(all(signal.getsignal(each) is signal.SIG_IGN for each in numbers) and 99)\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "orchestration.worker.supervisor", "1", "process", "name", "pool"],
        cwd=PROJECT_DIR,
        env={**clean_environment(), "PYTHONPATH": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 99


@pytest.mark.django_db
def test_child_that_died_with_its_parent_is_not_recorded_as_a_crash(
    half_dead: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration.models import Worker
    from orchestration.worker.supervisor.supervisor import WorkerSupervisor

    child = subprocess.Popen(["sleep", "600"])
    table = SlotTable.create()
    table.size = 1
    monkeypatch.setattr(os, "getppid", lambda: half_dead)
    supervisor = WorkerSupervisor(table, parent_pid=half_dead, process=PROCESS, name="supervised", pool_id="supervised")
    table.slot(0).pid = child.pid
    supervisor.check()
    child.kill()
    child.wait()
    for _ in range(3):
        supervisor.check()
    assert Worker.objects.get().status == "idle"
    supervisor.clean_up()
    assert Worker.objects.get().status == "offline"


@pytest.fixture
def supervisor(monkeypatch: pytest.MonkeyPatch) -> WorkerSupervisor:
    """Return a supervisor of this process, with two slots that this process fills."""
    from orchestration.worker.supervisor.supervisor import WorkerSupervisor

    table = SlotTable.create()
    table.size = 2
    for index in range(table.size):
        table.slot(index).pid = os.getpid()
    monkeypatch.setattr(os, "getppid", os.getpid)
    return WorkerSupervisor(table, parent_pid=os.getpid(), process=PROCESS, name="supervised", pool_id="supervised")


@pytest.mark.django_db
def test_supervisor_of_a_closed_pool_logs_it_once_and_tries_again_at_the_heartbeat_interval(
    supervisor: WorkerSupervisor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration import services
    from orchestration.limits import engine_limits
    from orchestration.models import Pool, Worker

    services.create_pool(pool_id="supervised")
    services.close_pool(pool_id="supervised")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    joined: list[str] = []
    join_pool = services.join_pool

    def count_and_join(**arguments: Any) -> str:
        joined.append(arguments["pool_id"])
        return join_pool(**arguments)

    monkeypatch.setattr(services, "join_pool", count_and_join)
    for _ in range(3):
        supervisor.check()
    assert len(joined) == 1
    now += engine_limits().heartbeat_seconds
    supervisor.check()
    assert len(joined) == 2
    assert logged_by("orchestration.worker.supervisor", caplog) == [
        "Cannot join pool supervised; the slots stay without workers: Pool supervised is closed and accepts no workers."
    ]
    Pool.objects.update(status="active")
    now += engine_limits().heartbeat_seconds
    supervisor.check()
    assert Worker.objects.filter(status="idle").count() == 2


@pytest.mark.django_db
def test_slot_that_fails_is_logged_once_and_the_other_slots_are_checked(
    supervisor: WorkerSupervisor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration import services
    from orchestration.models import Worker

    join_pool = services.join_pool
    joined: list[str] = []

    def reject_first(**arguments: Any) -> str:
        if not joined:
            joined.append("rejected")
            raise IntegrityError("a constraint")
        return join_pool(**arguments)

    monkeypatch.setattr(services, "join_pool", reject_first)
    supervisor.check()
    assert Worker.objects.filter(status="idle").count() == 1
    supervisor.check()
    assert Worker.objects.filter(status="idle").count() == 2
    assert logged_by("orchestration.worker.supervisor", caplog) == [
        "Cannot check slot 1; the worker supervisor tries again in each check"
    ]


@pytest.mark.django_db(transaction=True)
def test_supervisor_logs_an_unavailable_database_once_and_then_continues(
    supervisor: WorkerSupervisor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration import services
    from orchestration.models import Worker

    error = OperationalError("the connection is closed")

    def fail(**_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(services, "join_pool", fail)
        supervisor.check()
        supervisor.check()
    supervisor.check()
    assert logged_by("orchestration.worker.supervisor", caplog) == [
        f"Database unavailable ({error!r}); the worker supervisor retries",
        "Database available again; the worker supervisor continues",
    ]
    assert Worker.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_check_without_a_query_does_not_end_an_outage(
    supervisor: WorkerSupervisor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration import services

    error = OperationalError("the connection is closed")

    def fail(*_: object, **__: object) -> None:
        raise error

    # The workers join, and the first heartbeat is sent: the next is not due for seconds.
    supervisor.check()
    supervisor.check()
    unavailable = [f"Database unavailable ({error!r}); the worker supervisor retries"]
    with monkeypatch.context() as outage:
        outage.setattr(services, "record_heartbeats", fail)
        with monkeypatch.context() as query:
            query.setattr(supervisor, "_kill_overdue", fail)
            supervisor.check()
        # No stage is running, so this check would query nothing but for the heartbeat.
        supervisor.check()
        assert logged_by("orchestration.worker.supervisor", caplog) == unavailable
    supervisor.check()
    assert logged_by("orchestration.worker.supervisor", caplog) == [
        *unavailable,
        "Database available again; the worker supervisor continues",
    ]


def test_suspended_tree_can_be_resumed() -> None:
    process = subprocess.Popen(["sh", "-c", "sleep 600 & wait"], start_new_session=True)
    try:
        wait_until(lambda: len(process_tree(process.pid)) == 2, timeout_seconds=60, what="the child")
        tree = suspend_tree(process.pid)
        assert len(tree) == 2
        wait_until(lambda: statuses(tree) == {psutil.STATUS_STOPPED}, timeout_seconds=60, what="suspended processes")
        resume_tree(process.pid)
        wait_until(lambda: statuses(tree) == {psutil.STATUS_SLEEPING}, timeout_seconds=60, what="resumed processes")
    finally:
        kill_tree(process.pid)
        process.wait()


def statuses(processes: list[psutil.Process]) -> set[str]:
    return {process.status() for process in processes}


def test_kill_tree_leaves_no_process_of_a_tree_that_forks_meanwhile() -> None:
    process = subprocess.Popen(["sh", "-c", FORKING], start_new_session=True)
    try:
        wait_until(lambda: len(process_tree(process.pid)) > 20, timeout_seconds=60, what="a large tree")
    finally:
        kill_tree(process.pid)
        process.wait()
    time.sleep(0.2)
    assert [pid for pid in psutil.pids() if is_alive(pid) and group_of(pid) == process.pid] == []


def group_of(pid: int) -> int:
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def test_process_tree_without_access_to_other_processes_is_the_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: object, **__: object) -> None:
        raise psutil.AccessDenied(1)

    monkeypatch.setattr(psutil.Process, "children", deny)
    assert [process.pid for process in process_tree(os.getpid())] == [os.getpid()]
    monkeypatch.setattr(psutil.Process, "status", deny)
    assert is_alive(os.getpid())


@pytest.mark.django_db
@pytest.mark.parametrize("limit", ["timeout", "shutdown"])
def test_limits_of_a_stage_apply_while_the_database_is_unavailable(
    supervisor: WorkerSupervisor, limit: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration.limits import engine_limits

    child = subprocess.Popen(["sleep", "600"], start_new_session=True)
    table, slot = supervisor._table, supervisor._table.slot(0)
    slot.pid = child.pid
    timeout_ms = 1 if limit == "timeout" else 0
    slot.running = RunningAttempt(stage_id=1, attempt=1, started_ns=1, timeout_ms=timeout_ms, pid=child.pid)
    if limit == "shutdown":
        grace_ns = int(engine_limits().shutdown_grace_seconds * 1e9)
        table.stopping_since_ns = time.monotonic_ns() - grace_ns - 1

    def fail(*_: object) -> None:
        raise OperationalError("the connection is closed")

    with connection.execute_wrapper(fail):
        supervisor.check()
    assert child.wait(10) == -signal.SIGKILL
