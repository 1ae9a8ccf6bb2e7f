"""Other processes: their commands and their end. A zombie has ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil


def kill_at_once(processes: Iterable[psutil.Process]) -> None:
    """Kill these processes, without waiting for one before the next. Those that have ended are left out."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def has_ended(process: psutil.Process) -> bool:
    """Return whether a process has ended. `orchestration.processes.is_alive` asks about a pid."""
    try:
        return not process.is_running() or bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def command_of(process: psutil.Process) -> str | None:
    """Return the command line of a process; None if it has ended, even if it is a zombie."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return None
