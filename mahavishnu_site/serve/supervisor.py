"""Runs the parts of the Procfile together and stops them together, whatever the way it is told to stop.

This is honcho's manager, held to what it does not do: stop when it is told to before every part has started, stop when
the terminal is closed, give the parts the time they need to say close_frame, stop a part that does not end when it is asked
to, and leave no part behind when it is killed itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from functools import partial
from types import FrameType
from typing import Any

from honcho.manager import Manager
from honcho.printer import Message, Printer
from honcho.process import Popen, Process

from mahavishnu_site.serve import procfile
from mahavishnu_site.serve.pdeathsig import signalled_by_parent_death

STOP_MARGIN_SECONDS = 4.0
"""How much longer than `MAHAVISHNU_DRAIN_TIMEOUT_SECONDS` parts may take to end; those with processes of their own give
those half of it (`web_processes.KILL_MARGIN_SECONDS`)."""

LAST_TO_STOP = "valkey"
"""The other parts use it until they have ended."""

RETRY_SECONDS = 0.05

# What honcho's manager returns when it was told to stop; a part that crashed has another code.
CODES_OF_A_WANTED_STOP = frozenset({128 + signal.SIGINT, 128 + signal.SIGTERM})


class ForgivingPrinter(Printer):  # type: ignore[misc,unused-ignore]
    """Prints the parts' lines, and loses one rather than leave a part running."""

    def write(self, message: Message) -> None:
        # OSError: nobody reads any more, as after `make serve | head` or when the terminal has gone. RuntimeError: a
        # signal arrived in the middle of a line, and its handler prints as well.
        with contextlib.suppress(OSError, RuntimeError, UnicodeError):
            super().write(message)


class Part(Process):  # type: ignore[misc,unused-ignore]
    """One part, and honcho's helper process that starts it and passes its lines on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._helper_wish = signalled_by_parent_death(signal.SIGKILL)

    def run(self, events: Any = None, ignore_signals: bool = False) -> None:
        self._helper_wish()
        self._child_ctor = partial(Popen, preexec_fn=signalled_by_parent_death(signal.SIGTERM))
        super().run(events, ignore_signals)


class Supervisor(Manager):  # type: ignore[misc,unused-ignore]
    """One run of some parts: the first that ends takes the others with it."""

    returncode: int | None

    def __init__(self, *, stop_timeout_seconds: float) -> None:
        super().__init__(ForgivingPrinter(sys.stdout))
        self._process_ctor = Part
        self._pid = os.getpid()
        self._stop_timeout_seconds = stop_timeout_seconds
        self._kill_at: float | None = None
        self._not_asked: set[str] = set()

    def add_process(self, name: str, *args: Any, **kwargs: Any) -> Any:
        self._not_asked.add(name)
        return super().add_process(name, *args, **kwargs)

    def loop(self) -> None:
        """Run until every part has ended; no part outlives this call, even if it raises."""
        # Honcho's helper processes inherit this handler, and so survive the hang-up to report how their part ended.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._hang_up)
        try:
            super().loop()
        finally:
            super().kill()

    def terminate(self) -> None:
        """Ask every part to end, once each has started and what uses it has ended; later calls change nothing.

        A second signal is no wish for more haste: `make` passes on to us what the whole process group has got anyway.
        """
        if os.getpid() != self._pid or self._kill_at is not None:
            return  # A helper process that was signalled before it could set that aside: the run is not its own.
        self._kill_at = time.monotonic() + self._stop_timeout_seconds
        self._ask_to_end()

    def kill(self) -> None:
        """End what did not end in time; before that, honcho asks for it in vain."""
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            super().kill()

    def _ask_to_end(self) -> None:
        """Do what can be done about it now, and see to the rest a moment later."""
        if self._all_started():
            others = [name for name in self._processes if name != LAST_TO_STOP]
            for name in others:
                self._ask(name)
            if LAST_TO_STOP in self._processes and all("returncode" in self._processes[name] for name in others):
                self._ask(LAST_TO_STOP)
        self.kill()
        if self._not_asked or not self._all_stopped():
            timer = threading.Timer(RETRY_SECONDS, self._ask_to_end)
            timer.daemon = True
            timer.start()

    def _ask(self, name: str) -> None:
        # A timer's thread and a signal handler may both be here: only one of them takes the name out.
        with contextlib.suppress(KeyError):
            self._not_asked.remove(name)
            part = self._processes[name]
            if "returncode" not in part:
                self._system_print(f"sending SIGTERM to {name} (pid {part['pid']})\n")
                self._procmgr.terminate(part["pid"])

    def _all_started(self) -> bool:
        """Honcho asks this all the time: the moment to notice a helper that was killed and so reports nothing."""
        for part in self._processes.values():
            helper_code = part["process"].exitcode if "process" in part else None
            if helper_code and "returncode" not in part:
                part["returncode"] = helper_code
                if self.returncode is None:
                    self.returncode = helper_code
        return bool(super()._all_started())

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        os.kill(self._pid, signal.SIGTERM)


def run(parts: tuple[str, ...], *, environment: Mapping[str, str], drain_timeout_seconds: float) -> int:
    """Run these lines of the Procfile and return an exit code: 0 when it was told to stop, else that of the first
    part to end.

    Args:
        drain_timeout_seconds: How long a part may take to end of itself once it was asked to.
    """
    # Signal handlers have to reach the helper processes, which only this way of starting them does.
    multiprocessing.set_start_method("fork", force=True)
    commands = procfile.commands()
    supervisor = Supervisor(stop_timeout_seconds=drain_timeout_seconds + STOP_MARGIN_SECONDS)
    for part in parts:
        supervisor.add_process(part, commands[part], env=dict(environment), cwd=str(procfile.PROJECT_DIR))
    supervisor.loop()
    code = supervisor.returncode
    return 0 if code in CODES_OF_A_WANTED_STOP else code or 1
