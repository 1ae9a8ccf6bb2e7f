"""Restart the processes of programs one after another, for a renewed certificate or new code.

A process drains: its clients resume in the others, or in its successor. The next one follows when all others of its
program have started correctly, so a certificate or code that does not start ends the restart and not the service.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence

from mahavishnu_site.serve.replica import Replica

logger = logging.getLogger(__name__)

RESTART_SIGNAL = signal.SIGUSR1
"""SIGHUP stops everything: a terminal that is closed sends it."""


class RollingRestart:
    """Restarts those replicas whose program has `restarts_on_signal`; a program that is a parent gets the signal.

    Args:
        replicas: All replicas.
        stop_timeout_seconds: How long a process may run after SIGTERM, before its process group gets SIGKILL.
    """

    def __init__(self, replicas: Sequence[Replica], *, stop_timeout_seconds: float) -> None:
        self._replicas = replicas
        self._stop_timeout_seconds = stop_timeout_seconds
        self._waiting: list[Replica] = []
        self._current: Replica | None = None
        self._kill_at = 0.0

    def request(self) -> None:
        """Restart every process that runs now. One that does not run reads everything anew when it starts."""
        running = [each for each in self._replicas if each.process is not None and each.exit_code is None]
        self._waiting = [each for each in running if each.program.restarts_on_signal]
        for replica in running:
            if replica.program.forwards_restart and replica.process is not None:
                os.kill(replica.process.pid, RESTART_SIGNAL)

    def is_restarting(self, replica: Replica) -> bool:
        """Return whether the exit of this replica was requested."""
        return replica is self._current

    def advance(self, now: float) -> float | None:
        """Stop the next process if it is its turn; return the seconds until this is to be called again, if it is."""
        if self._current is not None:
            if self._current.exit_code is None and self._current.process is not None:
                if now >= self._kill_at:
                    logger.warning("%s is still running after SIGTERM; sending SIGKILL", self._current.name)
                    self._current.kill()
                    self._kill_at = now + self._stop_timeout_seconds
                return self._kill_at - now
            self._current = None
        if not self._waiting:
            return None
        replica = self._waiting[0]
        others = [each for each in self._replicas if each.program is replica.program and each is not replica]
        wait_seconds = max((each.seconds_until_steady(now=now) for each in others), default=0.0)
        if wait_seconds > 0:
            return wait_seconds
        del self._waiting[0]
        if replica.process is not None and replica.exit_code is None:
            logger.info("Restarting %s (pid %d)", replica.name, replica.process.pid)
            self._current, self._kill_at = replica, now + self._stop_timeout_seconds
            replica.terminate()
        return 0.0
