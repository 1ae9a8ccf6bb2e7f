"""A child of the worker process. It fills one slot, and runs one stage at a time."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from multiprocessing.process import AuthenticationString  # type: ignore[attr-defined]
from typing import Any

from billiard import current_process
from django.conf import settings

from orchestration.db.postgres_session import allow_idle_transactions, limit_idle_transactions
from orchestration.environment import withhold
from orchestration.limits import engine_limits
from orchestration.processes import kill_descendants
from orchestration.worker.slot_table import SharedSlot, SlotTable

_WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.005


class OutsideWorker(Exception):
    """A stage was started in a process that no worker supervisor watches."""

    def __str__(self) -> str:
        return "Stages only run in a worker: start one with `celery -A mahavishnu_site worker -Q POOL`"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Child:
    """What this process is. Kept in an object: a stage may empty the environment.

    Attributes:
        table: The slot table of the worker process.
        slot: The slot that this process fills.
        process: The id of this run of the worker process, as the workers' rows store it.
    """

    table: SlotTable
    slot: SharedSlot
    process: str


_inherited: tuple[SlotTable, str] | None = None
_child: _Child | None = None


def inherit(table: SlotTable, *, process: str) -> None:
    """Give the slot table and the id of this worker process to the children that it forks."""
    global _inherited
    _inherited = table, process


def on_process_init(**_: Any) -> None:
    """Fill the slot. Called in each child as it starts."""
    global _child
    if _inherited is None:
        return
    table, process = _inherited
    slot = table.slot(current_process().index)
    _child = _Child(table=table, slot=slot, process=process)
    # Use a separate process group, so the processes that a stage starts can be found and killed with the child.
    os.setpgrp()
    _allow_multiprocessing()
    # This thread's connection is the engine's. Stages have others.
    limit_idle_transactions(engine_limits().lease_seconds)
    allow_idle_transactions()
    withhold(settings.MAHAVISHNU_SECRET_VARIABLES)
    deadline = time.monotonic() + _WAIT_SECONDS
    # If the previous child died while it ran a stage, wait until the supervisor has recorded that. Not for longer, even
    # if the database is unavailable: Celery kills a child that does not start. `wait_for_worker` continues the wait.
    while slot.running is not None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    slot.must_replace = False
    slot.pid = os.getpid()


def on_process_shutdown(**_: Any) -> None:
    """Kill what the stages left running, and vacate the slot. Called in each child that exits normally."""
    if _child is not None and _child.slot.pid == os.getpid():
        kill_descendants()
        _child.slot.pid = 0


def current_slot() -> SharedSlot:
    """Return the slot that this process fills.

    Raises:
        OutsideWorker: if this is not a child of a worker.
    """
    return _this_child().slot


def worker_process_id() -> str:
    """Return the id of this run of the worker process, as the workers' rows store it."""
    return _this_child().process


def is_stopping() -> bool:
    """Return whether the worker process drains or shuts down; no new stage starts after that."""
    return _this_child().table.draining or is_shutting_down()


def is_shutting_down() -> bool:
    """Return whether a shutdown of the worker process was requested."""
    return _this_child().table.stopping_since_ns != 0


def is_grace_over() -> bool:
    """Return whether a shutdown was requested longer ago than stages may take to finish."""
    return _this_child().table.stopping_seconds > engine_limits().shutdown_grace_seconds


def wait_for_worker(slot: SharedSlot) -> bool:
    """Wait until the slot can run an attempt. Return False after 5 s, or if the process is stopping.

    Then a worker is registered for it, and the crash of the process that filled it before is recorded. A claim before
    that would record the attempt of that process as lost, even if it timed out.
    """
    deadline = time.monotonic() + _WAIT_SECONDS
    while not is_stopping():
        if slot.worker_id and slot.running is None:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return False


def _allow_multiprocessing() -> None:
    """Let stages use the standard library's `multiprocessing`, which takes billiard's process object for its own.

    As a daemon it could start no process, and billiard's type of the key cannot be sent to a spawned one.
    """
    process = current_process()
    process.daemon = False
    process._config["authkey"] = AuthenticationString(process.authkey)


def _this_child() -> _Child:
    if _child is None:
        raise OutsideWorker
    return _child
