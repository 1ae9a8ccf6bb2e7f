"""What a stage may change in its process, and what the next stage must find as it was.

A stage owns the process while it runs: it may change the folder, the environment, signal handlers, limits. They are
restored after its attempt. What cannot be restored is a reason to replace the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import locale
import logging
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

_SIGNALS: Final = (
    *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE, signal.SIGALRM, signal.SIGTERM),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD),
)
_LIMITS: Final = tuple(
    sorted({getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")})  # Depends on the system.
)

_events: Any = asyncio.events
"""The public functions that get and set the policy of event loops are deprecated, and make one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessState:
    """The state of a process before an attempt.

    In another thread than the main one, signal handlers are not restored: a stage cannot change them there.
    """

    folder: str | None
    environment: Any
    variables: Mapping[Any, Any]
    umask: int
    signal_mask: set[Any]
    handlers: Mapping[int, Any]
    alarm: tuple[float, float]
    captured_at: float
    limits: Mapping[int, tuple[int, int]]
    priority: int
    socket_timeout: float | None
    path: tuple[list[str], list[str]]
    arguments: tuple[list[str], list[str]]
    streams: tuple[Any, Any, Any]
    recursion_limit: int
    temporary_folder: str | None
    locale: str
    running_loop: asyncio.AbstractEventLoop | None
    loop_policy: Any
    logging_disabled: int
    processors: frozenset[int]
    process_group: int

    @classmethod
    def capture(cls) -> Self:
        """Return the state of this process."""
        umask = os.umask(0o077)
        os.umask(umask)
        return cls(
            folder=_folder(),
            environment=os.environ,
            variables=_variables(os.environ).copy(),
            umask=umask,
            signal_mask=signal.pthread_sigmask(signal.SIG_BLOCK, ()),
            handlers={number: signal.getsignal(number) for number in _SIGNALS},
            alarm=signal.getitimer(signal.ITIMER_REAL),
            captured_at=time.monotonic(),
            limits={limit: resource.getrlimit(limit) for limit in _LIMITS},
            priority=os.getpriority(os.PRIO_PROCESS, 0),
            socket_timeout=socket.getdefaulttimeout(),
            path=(sys.path, list(sys.path)),
            arguments=(sys.argv, list(sys.argv)),
            streams=(sys.stdin, sys.stdout, sys.stderr),
            recursion_limit=sys.getrecursionlimit(),
            temporary_folder=tempfile.tempdir,
            locale=locale.setlocale(locale.LC_ALL),
            running_loop=asyncio._get_running_loop(),
            loop_policy=_events._event_loop_policy,
            logging_disabled=logging.root.manager.disable,
            processors=_processors(),
            process_group=os.getpgrp(),
        )

    def restore(self) -> list[str]:
        """Restore the state in this process, and return the names of what cannot be restored."""
        return [name for name, restore in _RESTORATIONS if not _succeeds(restore, self)]

    def _restore_folder(self) -> bool:
        if _folder() == self.folder:
            return True
        if self.folder is not None:
            os.chdir(self.folder)
        return _folder() == self.folder

    def _restore_locale(self) -> None:
        locale.setlocale(locale.LC_ALL, self.locale)

    def _restore_values(self) -> None:
        """Restore what can be set in any case."""
        os.umask(self.umask)
        socket.setdefaulttimeout(self.socket_timeout)
        tempfile.tempdir = self.temporary_folder
        logging.root.manager.disable = self.logging_disabled
        sys.stdin, sys.stdout, sys.stderr = self.streams
        (sys.path, path), (sys.argv, arguments) = self.path, self.arguments
        sys.path[:], sys.argv[:] = path, arguments
        _events._event_loop_policy = self.loop_policy
        asyncio._set_running_loop(self.running_loop)

    def _restore_recursion_limit(self) -> None:
        sys.setrecursionlimit(self.recursion_limit)

    def _restore_priority(self) -> bool:
        return os.getpriority(os.PRIO_PROCESS, 0) == self.priority

    def _restore_processors(self) -> bool:
        if _processors() != self.processors:
            os.sched_setaffinity(0, self.processors)
        return _processors() == self.processors

    def _restore_process_group(self) -> None:
        """Return to the group that the supervisor kills to end the stage."""
        if os.getpgrp() != self.process_group:
            os.setpgid(0, self.process_group)

    def _restore_variables(self) -> None:
        os.environ = self.environment  # noqa: B003 (the stage may have replaced it; its variables are set below)
        if _variables(os.environ) != self.variables:
            os.environb.clear()
            os.environb.update(self.variables)

    def _restore_signals(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self.handlers.items():
                # None: the handler belongs to C code, which set it before.
                if handler is not None and signal.getsignal(number) != handler:
                    signal.signal(number, handler)
        delay, interval = self.alarm
        overdue_seconds = time.monotonic() - self.captured_at - delay
        # 0 means none: there was none, or it went off meanwhile, once.
        remaining_seconds = max(-overdue_seconds, 0.0)
        if delay and interval and overdue_seconds >= 0:
            remaining_seconds = interval - overdue_seconds % interval
        signal.setitimer(signal.ITIMER_REAL, remaining_seconds, interval)
        signal.pthread_sigmask(signal.SIG_SETMASK, self.signal_mask)

    def _restore_limits(self) -> bool:
        """Raise the limits that the stage has lowered. Return whether that was possible."""
        for limit, before in self.limits.items():
            if resource.getrlimit(limit) != before:
                with contextlib.suppress(ValueError, OSError):
                    resource.setrlimit(limit, before)
                if resource.getrlimit(limit) != before:
                    return False
        return True


_RESTORATIONS: Final[tuple[tuple[str, Callable[[ProcessState], bool | None]], ...]] = (
    ("the environment", ProcessState._restore_variables),
    ("the signal handlers", ProcessState._restore_signals),
    ("the values of the interpreter", ProcessState._restore_values),
    ("the recursion limit", ProcessState._restore_recursion_limit),
    ("the locale", ProcessState._restore_locale),
    ("the current folder", ProcessState._restore_folder),
    ("a resource limit", ProcessState._restore_limits),
    ("the priority", ProcessState._restore_priority),
    ("the processors", ProcessState._restore_processors),
    ("the process group", ProcessState._restore_process_group),
)


def _succeeds(restore: Callable[[ProcessState], bool | None], state: ProcessState) -> bool:
    """Return whether a restoration succeeds. Its error must not cost the result of the stage, which has ended."""
    try:
        return restore(state) is not False
    except Exception:
        return False


def _variables(environment: Any) -> dict[Any, Any]:
    """Return the encoded variables. A copy by the public API takes 13 µs, and each attempt needs two."""
    variables: dict[Any, Any] = environment._data
    return variables


def _folder() -> str | None:
    try:
        return os.getcwd()
    except OSError:
        return None


def _processors() -> frozenset[int]:
    """Return the processors that may run this process; none where the system does not bind processes to them."""
    return frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else frozenset()
