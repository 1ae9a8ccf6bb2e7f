"""Run programs in one or more processes each, restart those that end, and stop them together.

The package `supervisor` is not used: it does not stop all programs when one has failed or when it is killed itself.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mahavishnu_site.serve.prefixed_output import PrefixedOutput
from mahavishnu_site.serve.replica import Program, Replica
from mahavishnu_site.serve.rolling_restart import RESTART_SIGNAL, RollingRestart
from orchestration.processes import signal_pipe

logger = logging.getLogger(__name__)

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)

_IDLE_SECONDS = 60.0
"""Maximum time of one wait. A signal or output ends the wait earlier."""


class ProcessManager:
    """One run of some programs.

    Args:
        stop_timeout_seconds: How long processes may run after SIGTERM, before their process groups get SIGKILL.
        environment: The variables of all processes; by default those of this process.
        directory: The working directory of all processes; by default that of this process.
        output: Gets the output of all processes; by default they write to the files of this process.
        restart_problem: Returns why the programs could not start again, if `RESTART_SIGNAL` arrives; None if they can.
        repeats_sigterm: Whether a second stop signal sends SIGTERM a second time. Otherwise it is ignored.
    """

    def __init__(
        self,
        programs: Sequence[Program],
        *,
        stop_timeout_seconds: float,
        environment: Mapping[str, str] | None = None,
        directory: Path | None = None,
        output: PrefixedOutput | None = None,
        restart_problem: Callable[[], str | None] = lambda: None,
        repeats_sigterm: bool = False,
    ) -> None:
        self._replicas = [Replica(each, number) for each in programs for number in range(1, each.replicas + 1)]
        self._rolling = RollingRestart(self._replicas, stop_timeout_seconds=stop_timeout_seconds)
        self._stop_timeout_seconds = stop_timeout_seconds
        self._environment = environment
        self._directory = directory
        self._output = output
        self._restart_problem = restart_problem
        self._repeats_sigterm = repeats_sigterm
        self._kill_at: float | None = None
        self._exit_code = 0

    def run(self) -> int:
        """Run the programs until a stop signal arrives or a program has failed (see `RestartPolicy`).

        A program has failed when all its replicas have. No process outlives this call, except one that has started its
        own session. If the call raises, it first stops the programs, as after a signal. If SIGHUP is ignored (`nohup`),
        it stays ignored. `RESTART_SIGNAL` restarts processes one after another.

        Returns:
            0 after a stop signal, else the last exit code of the program that failed, or 1.
        """
        with signal_pipe((*STOP_SIGNALS, RESTART_SIGNAL, signal.SIGCHLD)) as pipe:
            try:
                self._run_until_stopped(pipe)
            except BaseException:
                self._begin_stop(time.monotonic(), exit_code=1)
                self._run_until_stopped(pipe)
                raise
            finally:
                for replica in self._running():
                    replica.kill()
                if self._output is not None:
                    self._output.finish()
        return self._exit_code

    def _run_until_stopped(self, pipe: int) -> None:
        while self._kill_at is None or self._running():
            now = time.monotonic()
            wait_seconds = self._start_due(now) if self._kill_at is None else self._stop_due(now)
            for number in self._wait(pipe, wait_seconds):
                if number in STOP_SIGNALS:
                    self._on_stop_signal(signal.Signals(number))
                elif number == RESTART_SIGNAL and self._kill_at is None:
                    self._on_restart_signal()
            self._reap(time.monotonic())

    def _running(self) -> list[Replica]:
        return [replica for replica in self._replicas if replica.process is not None]

    def _reap(self, now: float) -> None:
        for replica in self._running():
            if (code := replica.observe_exit()) is not None:
                self._on_exit(replica, code, now)
            if self._kill_at is None and self._leftovers_due(replica, now) <= 0:
                logger.warning("A process that %s started is still running; sending SIGKILL", replica.name)
                replica.kill()
            if replica.has_ended:
                replica.process = None

    def _leftovers_due(self, replica: Replica, now: float) -> float:
        """Return the seconds until what an ended process has left running is killed.

        A killed worker leaves its supervisor, which cleans up; killed `web_processes` leave processes that drain.
        """
        if replica.exit_code is None or replica.has_ended:
            return _IDLE_SECONDS
        return replica.exited_at + self._stop_timeout_seconds - now

    def _on_exit(self, replica: Replica, code: int, now: float) -> None:
        assert replica.process is not None
        exited = f"{replica.name} (pid {replica.process.pid}) {_exit_description(code)}"
        if self._kill_at is not None:
            logger.info("%s", exited)
            return
        if self._rolling.is_restarting(replica):
            logger.info("%s; starting it again", exited)
            replica.restart_at_once(now=now)
            return
        delay_seconds = replica.schedule_restart(now=now, by_itself=code >= 0)
        failures = [each.failure(now=now) for each in self._replicas if each.program is replica.program]
        if all(failures):
            logger.error("%s %s; stopping all other programs", exited, replica.failure(now=now))
            self._begin_stop(now, exit_code=128 - code if code < 0 else code or 1)
        else:
            logger.warning("%s; restarting it in %g s", exited, delay_seconds)

    def _start_due(self, now: float) -> float:
        """Start the processes that are due, and return the seconds until the next one is."""
        waits = [_IDLE_SECONDS]
        if (wait_seconds := self._rolling.advance(now)) is not None:
            waits.append(wait_seconds)
        for replica in self._replicas:
            if replica.process is not None:
                waits.append(self._leftovers_due(replica, now))
                continue
            if replica.restart_at > now:
                waits.append(replica.restart_at - now)
                continue
            stdout = None if self._output is None else subprocess.PIPE
            try:
                process = replica.start(
                    now=now, environment=self._environment, directory=self._directory, stdout=stdout
                )
            except OSError as error:
                if not replica.started_at:
                    raise
                replica.started_at = now
                delay_seconds = replica.schedule_restart(now=now, by_itself=False)
                waits.append(delay_seconds)
                logger.warning("%s could not start (%s); retrying in %g s", replica.name, error, delay_seconds)
                continue
            if self._output is not None and process.stdout is not None:
                self._output.add(replica.name, process.stdout)
            logger.info("%s started (pid %d)", replica.name, process.pid)
        return min(waits)

    def _on_stop_signal(self, number: signal.Signals) -> None:
        if self._kill_at is None:
            logger.info("%s received; stopping %d processes", number.name, len(self._running()))
            self._begin_stop(time.monotonic(), exit_code=0)
        elif self._repeats_sigterm:
            logger.info("%s received again; repeating SIGTERM", number.name)
            for replica in self._running():
                replica.terminated = False

    def _on_restart_signal(self) -> None:
        if problem := self._restart_problem():
            logger.error("%s received; restarting no process: %s", RESTART_SIGNAL.name, problem)
        else:
            logger.info("%s received; restarting processes one after another", RESTART_SIGNAL.name)
            self._rolling.request()

    def _begin_stop(self, now: float, *, exit_code: int) -> None:
        if self._kill_at is None:
            self._kill_at, self._exit_code = now + self._stop_timeout_seconds, exit_code

    def _stop_due(self, now: float) -> float:
        """Send SIGTERM and, after the timeout, SIGKILL; return the seconds until something is due."""
        assert self._kill_at is not None
        running = self._running()
        for replica in [each for each in running if not each.program.stops_last] or running:
            replica.terminate()
        if now >= self._kill_at:
            for replica in running:
                if replica.exit_code is None:
                    logger.warning("%s is still running after SIGTERM; sending SIGKILL", replica.name)
                else:
                    logger.warning("A process that %s started is still running; sending SIGKILL", replica.name)
                replica.kill()
            self._kill_at = now + self._stop_timeout_seconds
            return 0
        return self._kill_at - now

    def _wait(self, pipe: int, seconds: float) -> bytes:
        """Copy output until a signal arrives or the time is over; return the numbers of the signals."""
        sources = [] if self._output is None else self._output.sources()
        targets = [] if self._output is None else self._output.targets()
        readable, writable, _ = select.select([pipe, *sources], targets, [], max(seconds, 0))
        if self._output is not None:
            self._output.copy(readable=[source for source in readable if source != pipe], writable=bool(writable))
        return os.read(pipe, 512) if pipe in readable else b""


def _exit_description(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
