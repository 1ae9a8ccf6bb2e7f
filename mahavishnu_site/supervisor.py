"""Runs the parts of the Procfile together and stops them together, whatever the way it is told to stop.

This is honcho's manager, held to three things it does not do: stop when it is told to before every part has started,
stop when the terminal is closed, and stop a part that does not end when it is asked to.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping
from types import FrameType

from honcho.manager import Manager
from honcho.printer import Message, Printer

from mahavishnu_site import procfile

# How long a part may take to end before it is killed: daphne says goodbye to its clients in that time.
STOP_TIMEOUT_SECONDS = 8.0

NOT_YET_STARTED_RETRY_SECONDS = 0.05

# What honcho's manager returns when it was told to stop; a part that crashed has another code.
CODES_OF_A_WANTED_STOP = frozenset({128 + signal.SIGINT, 128 + signal.SIGTERM})


class ForgivingPrinter(Printer):  # type: ignore[misc,unused-ignore]
    """Prints the parts' lines, and loses one rather than leave a part running."""

    def write(self, message: Message) -> None:
        # OSError: nobody reads any more, as after `make serve | head` or when the terminal has gone. RuntimeError: a
        # signal arrived in the middle of a line, and its handler prints as well.
        with contextlib.suppress(OSError, RuntimeError, UnicodeError):
            super().write(message)


class Supervisor(Manager):  # type: ignore[misc,unused-ignore]
    """One run of some parts: the first that ends takes the others with it."""

    def __init__(self) -> None:
        super().__init__(ForgivingPrinter(sys.stdout))
        self._pid = os.getpid()

    def loop(self) -> None:
        """Run until every part has ended; no part outlives this call, even if it raises."""
        # Honcho's helper processes inherit this handler, and so survive the hang-up to report how their part ended.
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._hang_up)
        try:
            super().loop()
        finally:
            self.kill()

    def terminate(self) -> None:
        """Ask every part to end, as soon as each has started, and end those that do not."""
        if os.getpid() != self._pid:
            return  # A helper process that was signalled before it could set that aside: the run is not its own.
        if not self._all_started():
            later(NOT_YET_STARTED_RETRY_SECONDS, self)
            return
        super().terminate()
        killer = threading.Timer(STOP_TIMEOUT_SECONDS, self.kill)
        killer.daemon = True
        killer.start()

    def _hang_up(self, number: int, frame: FrameType | None) -> None:
        os.kill(self._pid, signal.SIGTERM)


def later(seconds: float, supervisor: Supervisor) -> None:
    timer = threading.Timer(seconds, supervisor.terminate)
    timer.daemon = True
    timer.start()


def run(parts: tuple[str, ...], *, environment: Mapping[str, str]) -> int:
    """Run these lines of the Procfile and return an exit code: 0 when it was told to stop, else that of the first
    part to end.
    """
    # Signal handlers have to reach the helper processes, which only this way of starting them does.
    multiprocessing.set_start_method("fork", force=True)
    commands = procfile.commands()
    supervisor = Supervisor()
    for part in parts:
        supervisor.add_process(part, commands[part], env=dict(environment), cwd=str(procfile.PROJECT_DIR))
    supervisor.loop()
    code = supervisor.returncode
    return 0 if code in CODES_OF_A_WANTED_STOP else code or 1
