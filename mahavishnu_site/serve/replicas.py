"""Several processes of one command that share what they were started with: kept running, and stopped, together."""

from __future__ import annotations

import logging
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from mahavishnu_site.serve.signal_pipe import signals_as_bytes, wait_for_signals

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

STEADY_SECONDS = 10.0
"""A process that lived so long had started well: if it ends, it is started again at once."""

MIN_RESTART_DELAY_SECONDS = 0.5
MAX_RESTART_DELAY_SECONDS = 30.0
"""One that did not waits before it is started again, each time twice as long."""

MAX_SHORT_LIVES = 3
"""When every one of them has ended so often in a row without having started well, the command itself is at fault."""

_LONG_SECONDS = 60.0
"""How long nothing is looked at while nothing happens: whatever happens is a signal, and ends the wait."""


@dataclass(slots=True)
class Replica:
    """One of the processes, over all its lives.

    Attributes:
        number: From 1 on; the log knows it by that.
        process: The life it has now, if it has one.
        at: When this life began, or the next one shall, on the monotonic clock.
        short_lives: How many lives in a row were shorter than `STEADY_SECONDS`.
    """

    number: int
    process: subprocess.Popen[bytes] | None = None
    at: float = 0.0
    short_lives: int = 0

    def ended(self, *, now: float) -> None:
        """Its process is gone: decide when the next one is started."""
        self.process = None
        if now - self.at >= STEADY_SECONDS:
            self.short_lives = 0
            self.at = now
        else:
            self.short_lives += 1
            delay = MIN_RESTART_DELAY_SECONDS * 2 ** (self.short_lives - 1)
            self.at = now + min(delay, MAX_RESTART_DELAY_SECONDS)

    def keeps_failing(self, *, now: float) -> bool:
        is_steady = self.process is not None and now - self.at >= STEADY_SECONDS
        return self.short_lives >= MAX_SHORT_LIVES and not is_steady


class Replicas:
    """`count` processes, started by calls of `start`.

    Args:
        stop_timeout_seconds: How long they may take to end once they were asked to, before they are killed.
    """

    def __init__(
        self, start: Callable[[], subprocess.Popen[bytes]], *, count: int, stop_timeout_seconds: float
    ) -> None:
        self._start = start
        self._siblings = [Replica(number) for number in range(1, count + 1)]
        self._stop_timeout_seconds = stop_timeout_seconds
        self._kill_at: float | None = None
        self._gave_up = False

    def run(self) -> int:
        """Keep them running until this process is told to stop, and return an exit code: 0 if it was told to.

        It is told by `STOP_SIGNALS`, each of which is passed on as SIGTERM, so a second one means to the processes what
        it would have meant if it had been sent to them. Where nobody may tell it (`nohup`), a hang-up is ignored.
        """
        with signals_as_bytes((*STOP_SIGNALS, signal.SIGCHLD)) as pipe:
            while True:
                now = time.monotonic()
                self._notice_ends(now)
                if self._kill_at is None and all(sibling.keeps_failing(now=now) for sibling in self._siblings):
                    logger.error("None of the %d processes can be kept running: giving up", len(self._siblings))
                    self._gave_up = True
                    self._stop(now)
                if self._kill_at is not None and not self._running():
                    return int(self._gave_up)
                wait_seconds = self._kill_overdue(now) if self._kill_at is not None else self._start_due(now)
                for number in wait_for_signals(pipe, wait_seconds):
                    if number in STOP_SIGNALS:
                        logger.info("%s: stopping %d processes", signal.Signals(number).name, len(self._running()))
                        self._stop(time.monotonic())

    def _running(self) -> list[subprocess.Popen[bytes]]:
        return [sibling.process for sibling in self._siblings if sibling.process is not None]

    def _notice_ends(self, now: float) -> None:
        for sibling in self._siblings:
            if sibling.process is None or (code := sibling.process.poll()) is None:
                continue
            pid = sibling.process.pid
            sibling.ended(now=now)
            if self._kill_at is None:
                how, delay_seconds = _described(code), max(sibling.at - now, 0)
                logger.warning(
                    "Process %d (pid %d) %s: another one starts in %g s", sibling.number, pid, how, delay_seconds
                )

    def _start_due(self, now: float) -> float:
        """Start what has to run, and return how many seconds later there will be more to do."""
        waits = [_LONG_SECONDS]
        for sibling in self._siblings:
            if sibling.process is not None:
                continue
            if sibling.at <= now:
                sibling.process = self._start()
                sibling.at = now
                logger.info("Process %d has pid %d", sibling.number, sibling.process.pid)
            else:
                waits.append(sibling.at - now)
        return min(waits)

    def _stop(self, now: float) -> None:
        for process in self._running():
            process.terminate()
        if self._kill_at is None:
            self._kill_at = now + self._stop_timeout_seconds

    def _kill_overdue(self, now: float) -> float:
        """Kill whatever has had its time, and return how many seconds there are left."""
        assert self._kill_at is not None
        if now < self._kill_at:
            return self._kill_at - now
        for process in self._running():
            logger.warning("The process with pid %d did not end in time and is killed", process.pid)
            process.kill()
        self._kill_at = now + self._stop_timeout_seconds
        return self._stop_timeout_seconds


def _described(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
