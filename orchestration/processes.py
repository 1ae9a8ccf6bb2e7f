"""Suspend, resume and kill whole process trees, close this process to others, and wait for its signals.

psutil compares start times, so a reused id is harmless.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Final

import psutil

_MAX_SCANS: Final = 20
"""Bounds the search for processes that are forked while their tree is being suspended."""


# prctl(2), from linux/prctl.h.
_PR_SET_DUMPABLE: Final = 4


def close_memory() -> None:
    """Close this process, and those it forks, to other processes of the same user that have no special rights.

    They can then neither read `/proc/PID/environ` nor attach a debugger, and a crash leaves no core file. A program
    that it starts is open again. Has no effect except on Linux, and none where `/proc` shows a user only the processes
    that it may trace (`hidepid`): the supervisor could no longer find the worker.
    """
    if sys.platform == "linux" and not _hides_processes(_mounts()):
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


def _mounts() -> bytes:
    """Return the table of mounts. A mount point is any bytes but NUL; spaces and line feeds are escaped."""
    try:
        return Path("/proc/self/mounts").read_bytes()
    except OSError:  # `/proc` is not mounted, so it hides nothing.
        return b""


def _hides_processes(mounts: bytes) -> bool:
    """Return whether `/proc` is mounted with `hidepid`: see proc(5)."""
    fields = [line.split(b" ") for line in mounts.split(b"\n")]
    options = {option for field in fields if field[1:3] == [b"/proc", b"proc"] for option in field[3].split(b",")}
    return any(each.startswith(b"hidepid=") for each in options - {b"hidepid=0", b"hidepid=off"})


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


def kill_descendants() -> None:
    """Kill what this process has started and the rest of its process group, except itself. It leaves the group."""
    for process in process_tree(os.getpid())[1:]:
        kill_tree(process.pid)
    group = os.getpgrp()
    with contextlib.suppress(OSError):  # It leads a session, or the parent is in another one.
        os.setpgid(0, os.getpgid(os.getppid()))
    kill_group(group)


def kill_group(pid: int) -> None:
    """Kill the remaining processes of the group whose leader had this id."""
    if pid > 1 and pid != os.getpgrp():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


@contextlib.contextmanager
def signal_pipe(
    numbers: Sequence[signal.Signals], *, handler: Callable[[int, FrameType | None], Any] = lambda *_: None
) -> Iterator[int]:
    """Yield a pipe that receives the number of each of these signals (the self-pipe trick).

    It also receives the number of any other signal that has a Python handler.

    A handler may interrupt any code of the main thread, so it must not take a lock: `threading.Event.set()` waits
    forever if the interrupted code is in `wait()` or `set()` of that event.

    A signal that is ignored stays ignored. At the end, the signals have their previous handlers again.
    """
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    previous_wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    previous = {number: signal.getsignal(number) for number in numbers}
    try:
        for number, previous_handler in previous.items():
            if previous_handler is not signal.SIG_IGN:
                signal.signal(number, handler)
        yield reading
    finally:
        signal.set_wakeup_fd(previous_wakeup)
        for number, previous_handler in previous.items():
            signal.signal(number, previous_handler)
        os.close(reading)
        os.close(writing)


def _send(number: signal.Signals, processes: Iterable[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.send_signal(number)
