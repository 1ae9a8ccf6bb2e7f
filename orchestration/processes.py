"""Suspend, resume and kill whole process trees. psutil compares start times, so a reused id is harmless."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable
from typing import Final

import psutil

_MAX_SCANS: Final = 20
"""Bounds the search for processes that are forked while their tree is being suspended."""


def is_alive(pid: int) -> bool:
    """Return whether the process exists and has not ended. A zombie has ended."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False


def process_tree(pid: int) -> list[psutil.Process]:
    """Return a process and all descendants whose parents are alive; an empty list if the process does not exist."""
    try:
        root = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return []
    try:
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []
    except psutil.AccessDenied:  # /proc hides the processes of other users (`hidepid`).
        return [root]


def suspend_tree(pid: int) -> list[psutil.Process]:
    """Suspend a process and all of its descendants, and return them.

    A process may fork between the scan and its suspension, so this scans until it finds no new process.
    """
    suspended: list[psutil.Process] = []
    for _ in range(_MAX_SCANS):
        if not (new := [each for each in process_tree(pid) if each not in suspended]):
            break
        _send(signal.SIGSTOP, new)
        suspended += new
    return suspended


def resume_tree(pid: int) -> None:
    """Resume a suspended process and all of its descendants."""
    _send(signal.SIGCONT, process_tree(pid))


def kill_tree(pid: int) -> None:
    """Kill a process, all of its descendants and its process group.

    The tree is suspended first, so that no process escapes by forking. Descendants are found through their parents, in
    any session. The process group contains those whose parents have ended. A descendant that has left both the tree and
    the group is not found.
    """
    _send(signal.SIGKILL, suspend_tree(pid))
    kill_group(pid)


def kill_group(pid: int) -> None:
    """Kill the remaining processes of the group whose leader had this id."""
    if pid > 1 and pid != os.getpgrp():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def _send(number: signal.Signals, processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.send_signal(number)
