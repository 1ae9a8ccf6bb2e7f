"""The slot table of a worker process, and how a slot's monitor reads it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from orchestration.worker.slot_table import RunningAttempt, SlotTable

PROCESS = "process"


def test_slot_table_shows_the_same_slots_to_all_processes() -> None:
    table = SlotTable.create()
    table.size = 2
    child, supervisor = SlotTable.open(table.descriptor).slot(1), SlotTable.open(table.descriptor).slot(1)
    assert (supervisor.pid, supervisor.running, supervisor.worker_id) == (0, None, "")
    supervisor.worker_id = "x" * 128
    supervisor.worker_id = "local-box-2"
    child.pid = 4711
    child.running = running = RunningAttempt(7, 3, 123456789, 1500, 42)
    assert (table.size, supervisor.pid, supervisor.running, child.worker_id) == (2, 4711, running, "local-box-2")
    assert table.slot(0).running is None
    supervisor.request_cancel(running)
    assert (child.is_cancelled(7, 3), child.is_cancelled(7, 4), child.is_cancelled(8, 3)) == (True, False, False)
    child.running = None
    assert supervisor.running is None


def test_slot_table_has_no_file_that_something_could_remove(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    table = SlotTable.create()
    assert list(tmp_path.iterdir()) == []
    table.size = 3
    assert SlotTable.open(table.descriptor).size == 3


def test_crash_includes_an_attempt_that_began_just_before_the_process_died(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Django must be set up before.
    from orchestration.worker.supervisor import slot_monitor

    table = SlotTable.create()
    table.size = 1
    slot = table.slot(0)
    slot.pid = 4_000_000
    attempt = RunningAttempt(stage_id=1, attempt=1, started_ns=1, timeout_ms=0, pid=4_000_000)

    def begin_and_die(_: int) -> bool:
        slot.running = attempt
        return False

    monkeypatch.setattr(slot_monitor, "is_alive", begin_and_die)
    monitor = slot_monitor.SlotMonitor(slot, name="monitored", process=PROCESS, pool_id="monitored")
    monitor.detect_crash()
    assert monitor._crash is not None
    assert monitor._crash.running == attempt


def test_successor_of_a_recycled_process_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration.worker.supervisor import slot_monitor

    recycled, successor = 4_000_000, 4_000_001
    table = SlotTable.create()
    table.size = 1
    slot = table.slot(0)
    slot.pid = recycled
    monkeypatch.setattr(slot_monitor, "is_alive", lambda pid: pid == successor)
    monitor = slot_monitor.SlotMonitor(slot, name="monitored", process=PROCESS, pool_id="monitored")
    monitor.leave_if_vacant()
    # It has ended normally, and the next process runs an attempt before the monitor looks again.
    slot.pid = successor
    slot.running = RunningAttempt(stage_id=1, attempt=1, started_ns=1, timeout_ms=0, pid=successor)
    monitor.detect_crash()
    assert not monitor.has_crashed
