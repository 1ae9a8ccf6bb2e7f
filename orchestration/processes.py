"""Ending a process with everything it started, whatever that does to stay."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections import defaultdict
from pathlib import Path

_PROC = Path("/proc")


def is_alive(pid: int) -> bool:
    """Tell whether there is such a process, and it has not ended already."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _state(pid) != "Z"


def suspend_tree(pid: int) -> None:
    """Stop a process without its consent; it goes on with `thaw`."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)


def resume_tree(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def kill_tree(pid: int) -> None:
    """End a process, its descendants and its process group, at once.

    Descendants are found by their parents, so that those in sessions of their own end too; the group finds those whose
    parents are gone. Only what left both is not found.
    """
    for each in [*descendants(pid), pid]:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(each, signal.SIGKILL)
    kill_group(pid)


def kill_group(pid: int) -> None:
    """End what is left of the process group that a process was the first of."""
    if pid > 1 and pid != os.getpgrp():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Every process that a process has started, and what those have started, as far as their parents are alive."""
    children: dict[int, list[int]] = defaultdict(list)
    for each, parent in _parents():
        children[parent].append(each)
    found: list[int] = []
    look_at = [pid]
    while look_at:
        look_at = [each for parent in look_at for each in children[parent]]
        found.extend(look_at)
    return found


def _parents() -> list[tuple[int, int]]:
    """Every process and its parent."""
    if not (_PROC / "self" / "stat").exists():
        listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False).stdout
        rows = (line.split() for line in listed.splitlines())
        return [(int(row[0]), int(row[1])) for row in rows if len(row) == 2]
    found = []
    for entry in os.listdir(_PROC):
        if entry.isdecimal() and (fields := _stat(int(entry))):
            found.append((int(entry), int(fields[1])))
    return found


def _state(pid: int) -> str:
    fields = _stat(pid)
    return fields[0] if fields else ""


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the name, which may hold anything: state, parent, …"""
    try:
        return (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
