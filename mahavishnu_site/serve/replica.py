"""A program and its replicas. A replica is one process of a program, across all its restarts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mahavishnu_site.serve.restart_policy import DEFAULT_POLICY, RestartHistory, RestartPolicy

_PR_SET_PDEATHSIG = 1

# Loaded here: nothing should be loaded between fork and exec.
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A command, and how its processes are run.

    Attributes:
        name: Identifies the program in the log and in front of its output.
        command: The arguments, or one line for the shell.
        replicas: How many processes run the command.
        restart_policy: When a process that ended is restarted.
        stops_last: Whether the program is stopped after all others have ended, because they use it.
        environment: Additional variables of its processes.
        restarts_on_signal: Whether a rolling restart includes its processes.
        forwards_restart: Whether its process is a parent of processes that restart, and gets the signal.
        stdin: The file descriptor of its standard input, such as a listening socket that replicas share.
    """

    name: str
    command: str | Sequence[str]
    replicas: int = 1
    restart_policy: RestartPolicy = DEFAULT_POLICY
    stops_last: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    restarts_on_signal: bool = False
    forwards_restart: bool = False
    stdin: int = subprocess.DEVNULL


@dataclass(slots=True)
class Replica:
    """One process of a program, across all its restarts.

    Attributes:
        number: Counts the replicas of a program from 1.
        process: The current process, if one runs.
        started_at: The last start, on the monotonic clock.
        exited_at: The exit of the current process, on the monotonic clock.
        restart_at: The time of the next start, after the current process has ended.
        history: The exits of all processes.
        terminated: Whether SIGTERM was sent to the current process.
        killed: Whether SIGKILL was sent to its process group.
        exit_code: The exit code of the current process, once it has exited.
    """

    program: Program
    number: int = 1
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    exited_at: float = 0.0
    restart_at: float = 0.0
    terminated: bool = False
    killed: bool = False
    exit_code: int | None = None
    history: RestartHistory = field(init=False)

    def __post_init__(self) -> None:
        self.history = RestartHistory(self.program.restart_policy)

    @property
    def name(self) -> str:
        return self.program.name if self.program.replicas == 1 else f"{self.program.name}.{self.number}"

    @property
    def has_ended(self) -> bool:
        """Whether the current process, and every process it started that shares its output, have ended.

        Their output is then at its end, and `PrefixedOutput` has closed the pipe. Without a pipe, or after SIGKILL,
        only the process itself counts.
        """
        if self.process is None:
            return True
        output_ended = self.process.stdout is None or self.process.stdout.closed
        return self.exit_code is not None and (output_ended or self.killed)

    def start(
        self, *, now: float, environment: Mapping[str, str] | None, directory: Path | None, stdout: int | None
    ) -> subprocess.Popen[bytes]:
        """Start the process as the leader of a new session. Its standard error goes to the same file as its output.

        A signal to this process's group does not reach it. It therefore gets each signal once, from `ProcessManager`.
        """
        self.process = subprocess.Popen(
            self.program.command,
            shell=isinstance(self.program.command, str),
            cwd=directory,
            env={**(os.environ if environment is None else environment), **self.program.environment},
            stdin=self.program.stdin,
            stdout=stdout,
            stderr=None if stdout is None else subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=signalled_by_parent_death(signal.SIGTERM),
        )
        self.started_at, self.terminated, self.killed, self.exit_code = now, False, False, None
        return self.process

    def observe_exit(self) -> int | None:
        """Return the exit code at the first call after the process has exited; otherwise None."""
        if self.process is None or self.exit_code is not None:
            return None
        self.exit_code = self.process.poll()
        return self.exit_code

    def terminate(self) -> None:
        """Send SIGTERM, once for each process."""
        if self.process is not None and not self.terminated:
            self.terminated = True
            self.process.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the process and what it has started."""
        self.killed = True
        # On macOS a process that has ended and was not waited for cannot be signalled.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.process is not None:
                os.killpg(self.process.pid, signal.SIGKILL)

    def schedule_restart(self, *, now: float, by_itself: bool) -> float:
        """Set the time of the next start after an exit, and return the seconds until then."""
        delay_seconds = self.history.record_exit(ran_seconds=now - self.started_at, by_itself=by_itself, now=now)
        self.exited_at, self.restart_at = now, now + delay_seconds
        return delay_seconds

    def restart_at_once(self, *, now: float) -> None:
        """Start again after an exit that was requested; it counts for no `RestartPolicy`."""
        self.history.record_requested_restart()
        self.exited_at = self.restart_at = now

    def seconds_until_steady(self, *, now: float) -> float:
        """Return after how many seconds, from now, the current process has started correctly; 0 if it has.

        A process that does not run is looked at again after the time that it would need.
        """
        steady_seconds = self.program.restart_policy.steady_seconds
        if self.process is None or self.exit_code is not None:
            return steady_seconds
        return max(self.started_at + steady_seconds - now, 0.0)

    def failure(self, *, now: float) -> str | None:
        """Return why this replica is not worth a restart, for a log line; None if it is."""
        is_running = self.process is not None and self.exit_code is None
        return self.history.failure(now=now, running_seconds=now - self.started_at if is_running else None)


def signalled_by_parent_death(number: signal.Signals) -> Callable[[], None]:
    """Return a `preexec_fn` for `subprocess.Popen`: the child gets `number` when this process dies, even by SIGKILL.

    This needs Linux (`PR_SET_PDEATHSIG` in prctl(2)). Elsewhere nothing happens, and the children of a manager that was
    killed keep running. The parent counts as dead when the thread that started the child ends, so that should be the
    main thread. The setting survives exec. Processes that the child starts do not inherit it.
    """
    parent = os.getpid()

    def request_signal() -> None:
        if _prctl is None:
            return
        _prctl(_PR_SET_PDEATHSIG, number.value, 0, 0, 0)
        if os.getppid() != parent:
            # The parent died before the call. (A signal sent to this process would run the parent's handler here.)
            os._exit(128 + number)

    return request_signal
