"""Let a running attempt end before SIGTERM ends its process.

systemd sends SIGTERM to every process of a stopping worker, and a machine short of memory to any process. The default
handler would end the attempt in the middle, with a `SystemExit` of the stage.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Final

_SHELL_EXIT_CODE: Final = 128 + signal.SIGTERM


class DeferredTermination:
    """Whether SIGTERM has arrived during a block of `deferred_termination()`."""

    requested = False


_active: list[DeferredTermination] = []


@contextmanager
def deferred_termination() -> Iterator[DeferredTermination]:
    """Note SIGTERM in this process instead of ending it. Processes that it forks end at SIGTERM, as by default.

    Must be called in the main thread.
    """
    termination = DeferredTermination()

    def note(_number: int, _frame: FrameType | None) -> None:
        termination.requested = True

    previous = signal.signal(signal.SIGTERM, note)
    _active.append(termination)
    try:
        yield termination
    finally:
        _active.remove(termination)
        signal.signal(signal.SIGTERM, previous)


# Python drops the signals that arrive in a new process before its own clean-up after the fork, so they are blocked.


def _block() -> None:
    if _active:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _unblock() -> None:
    if _active:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _restore_in_child() -> None:
    if _active:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _unblock()
        _active.clear()


os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=_restore_in_child)


def may_be_terminated(error: BaseException) -> bool:
    """Return whether SIGTERM to a process that the stage had started may have caused its error."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if isinstance(cause, subprocess.CalledProcessError):
            if cause.returncode in (-signal.SIGTERM, _SHELL_EXIT_CODE):
                return True
        elif isinstance(cause, BrokenExecutor) or getattr(cause, "exit_code", None) == -signal.SIGTERM:
            return True
        cause = cause.__cause__ or cause.__context__
    return False
