"""What a keeper makes of a process that ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.processes import is_alive
from orchestration.worker.slot_table import SlotTable
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.django_db

PROCESS = "the test process"

# Its first thread ends at once, as the first one of a process that is killed may; the other one goes on.
HALF_DEAD = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
ctypes.PyDLL(None).pthread_exit(None)
"""


@pytest.fixture
def half_dead() -> Iterator[int]:
    """A process that ends, of which something is left."""
    process = subprocess.Popen([sys.executable, "-c", HALF_DEAD])
    wait_until(lambda: not is_alive(process.pid), timeout_seconds=60, what="the end of its first thread")
    assert process.poll() is None
    yield process.pid
    process.kill()
    process.wait()


def test_a_child_that_died_with_its_parent_is_no_crash_of_its_worker(
    half_dead: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orchestration.models import Worker
    from orchestration.worker.supervisor.supervisor import WorkerSupervisor

    child = subprocess.Popen(["sleep", "600"])
    table = SlotTable.create(tmp_path / "slots")
    table.size = 1
    monkeypatch.setattr(os, "getppid", lambda: half_dead)
    keeper = WorkerSupervisor(table, parent_pid=half_dead, process=PROCESS, name="kept", pool_id="kept")
    table.slot(0).pid = child.pid
    keeper.look()
    child.kill()
    child.wait()
    for _ in range(3):
        keeper.look()
    assert Worker.objects.get().status == "idle"
    keeper.clean_up()
    assert Worker.objects.get().status == "offline"
