"""Other processes: their commands, their descendants, and their end. A zombie has ended."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

import psutil


def process_tree(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants. It must run: the children of an ended process have no parent."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def kill_at_once(processes: Iterable[psutil.Process]) -> None:
    """Kill these processes, without waiting for one before the next. Those that have ended are left out."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def has_ended(process: psutil.Process | int) -> bool:
    """Return whether a process, or the one with this pid, has ended."""
    try:
        found = psutil.Process(process) if isinstance(process, int) else process
        return not found.is_running() or bool(found.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def command_of(process: psutil.Process) -> str | None:
    """Return the command line of a process; None if it has ended, even if it is a zombie."""
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return None
