"""A program and its replicas. A replica is one process of a program, across all its restarts."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

STEADY_SECONDS = 10.0
"""A process that ran this long has started correctly. When it ends, it is restarted at once."""

MIN_RESTART_DELAY_SECONDS = 0.5
MAX_RESTART_DELAY_SECONDS = 30.0
"""A process that ended earlier is restarted after a delay, which doubles each time."""

MAX_CRASHES = 3
"""A program fails when all its replicas have ended this often in a row within `STEADY_SECONDS` of their start."""

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
        restarts: Whether a process that ends is replaced. Otherwise the first one to end stops all programs.
        stops_last: Whether the program is stopped after all others have ended, because they use it.
        stdin: The file descriptor of its standard input, such as a listening socket that replicas share.
    """

    name: str
    command: str | Sequence[str]
    replicas: int = 1
    restarts: bool = False
    stops_last: bool = False
    stdin: int = subprocess.DEVNULL


@dataclass(slots=True)
class Replica:
    """One process of a program, across all its restarts.

    Attributes:
        number: Counts the replicas of a program from 1.
        process: The current process, if one runs.
        started_at: The last start, on the monotonic clock.
        restart_at: Without a current process, the time of the next start.
        crash_count: How many processes in a row ended within `STEADY_SECONDS`.
        terminated: Whether SIGTERM was sent to the current process.
        killed: Whether SIGKILL was sent to its process group.
        exit_code: The exit code of the current process, once it has exited.
    """

    program: Program
    number: int = 1
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    restart_at: float = 0.0
    crash_count: int = 0
    terminated: bool = False
    killed: bool = False
    exit_code: int | None = None

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
            env=environment,
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

    def schedule_restart(self, *, now: float) -> None:
        """Set the time of the next start, after the process has ended."""
        self.process = None
        if now - self.started_at >= STEADY_SECONDS:
            self.crash_count = 0
            self.restart_at = now
        else:
            self.crash_count += 1
            delay_seconds = min(MIN_RESTART_DELAY_SECONDS * 2 ** (self.crash_count - 1), MAX_RESTART_DELAY_SECONDS)
            self.restart_at = now + delay_seconds

    def is_failing(self, *, now: float) -> bool:
        is_steady = self.process is not None and now - self.started_at >= STEADY_SECONDS
        return self.crash_count >= MAX_CRASHES and not is_steady


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
