"""A child of the worker process: it fills one slot, and runs one stage at a time in it."""

from __future__ import annotations

import os
import time
from functools import cache
from pathlib import Path
from typing import Any

from billiard import current_process
from django.db import connections

from orchestration.worker.slot_table import SharedSlot, SlotTable

TABLE_VARIABLE = "MAHAVISHNU_SLOT_TABLE"
PROCESS_VARIABLE = "MAHAVISHNU_WORKER_PROCESS"

_WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.005


class OutsideWorker(Exception):
    """A stage can only run in a worker process, which is watched by its keeper."""

    def __str__(self) -> str:
        return "Stages run in a worker: start one with `celery -A mahavishnu_site worker -Q POOL`"


def on_process_init(**_: Any) -> None:
    """Take the slot. Called in each child as it starts."""
    if TABLE_VARIABLE not in os.environ:
        return
    # A group of its own: what a stage starts is found and ended with it.
    os.setpgrp()
    for connection in connections.all(initialized_only=True):
        connection.connection = None  # The parent's, if it had any: to close it here would be to close it there.
    slot = my_slot()
    deadline = time.monotonic() + _WAIT_SECONDS
    # The one before died in the middle of a stage, and the keeper still has to say so.
    while slot.running is not None and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    slot.pid = os.getpid()


def on_process_shutdown(**_: Any) -> None:
    """Leave the slot. Called in each child that ends as it should."""
    if TABLE_VARIABLE in os.environ and my_slot().pid == os.getpid():
        my_slot().pid = 0


def my_slot() -> SharedSlot:
    """The slot that this process fills.

    Raises:
        NotInAWorker
    """
    if TABLE_VARIABLE not in os.environ:
        raise OutsideWorker
    return _table(os.environ[TABLE_VARIABLE]).slot(current_process().index)


def process_name() -> str:
    """Names this run of the worker process, as the workers' rows do."""
    return os.environ[PROCESS_VARIABLE]


def track_process_group(pid: int) -> None:
    """Have the keeper end this process and its group should this process die; 0 for none. Nothing outside a worker."""
    if TABLE_VARIABLE in os.environ:
        my_slot().group = pid


def is_stopping() -> bool:
    """Tell whether the worker process was told to stop: then nothing new is begun."""
    return _table(os.environ[TABLE_VARIABLE]).stopping_since_ns != 0


def wait_for_worker(slot: SharedSlot) -> bool:
    """Wait until a worker stands for the slot; False if none does after a while, or the process is to stop."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while not is_stopping():
        if slot.worker_id:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return False


@cache
def _table(path: str) -> SlotTable:
    return SlotTable.open(Path(path))
