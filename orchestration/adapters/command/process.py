"""Run a subprocess until it and all processes that it started have ended."""

from __future__ import annotations

import contextlib
import enum
import math
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

import psutil

from orchestration.processes import kill_group, kill_tree, process_tree
from orchestration.text import argument_bytes

_FIRST_POLL_SECONDS: Final = 0.0005
_POLL_SECONDS: Final = 0.05
_DRAIN_SECONDS: Final = 0.5
_CHUNK_BYTES: Final = 64 * 1024


class Stop(enum.Enum):
    """Why a subprocess is stopped."""

    CANCELLED = "its run has ended"
    TIMED_OUT = "it exceeded its time limit"


def can_execute(program: str, *, cwd: str | None, environment: Mapping[str, str]) -> bool:
    """Return whether a program exists and may be executed. It is looked for as in `Subprocess`.

    A name without a slash is looked for in the `PATH` of its environment, and relative paths start at its directory.
    """
    folders = [""] if "/" in program else os.get_exec_path(environment)
    root = b"." if cwd is None else argument_bytes(cwd)
    paths = [os.path.join(root, argument_bytes(folder), argument_bytes(program)) for folder in folders]
    return any(os.path.isfile(path) and os.access(path, os.X_OK) for path in paths)


def is_directory(path: str) -> bool:
    """Return whether a working directory exists."""
    return os.path.isdir(argument_bytes(path))


class Subprocess:
    """A subprocess in a new session. At the end of a `with` block it is killed, with all that it started.

    Args:
        argv: The program and its arguments.
        cwd: Its working directory; None for that of this process.
        environment: All of its environment variables.
        stdin: What it reads on standard input.
        track_process_group: Records its process group, which is killed if this process dies; 0 clears the record.

    Raises:
        OSError: if it cannot be started.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None,
        environment: Mapping[str, str],
        stdin: bytes = b"",
        track_process_group: Callable[[int], None] = lambda pid: None,
    ) -> None:
        self._process = subprocess.Popen(
            list(map(argument_bytes, argv)),
            cwd=None if cwd is None else argument_bytes(cwd),
            env={argument_bytes(name): argument_bytes(value) for name, value in environment.items()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._track_process_group = track_process_group
        track_process_group(self._process.pid)
        self._unwritten = memoryview(stdin)
        self._terminated: list[psutil.Process] = []
        self._pause_seconds = _FIRST_POLL_SECONDS
        self._pipes = selectors.DefaultSelector()
        for pipe, events, name in (
            (self._process.stdin, selectors.EVENT_WRITE, "stdin"),
            (self._process.stdout, selectors.EVENT_READ, "stdout"),
            (self._process.stderr, selectors.EVENT_READ, "stderr"),
        ):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._pipes.register(pipe, events, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._reap()
        for key in list(self._pipes.get_map().values()):
            self._close(key)
        self._pipes.close()

    def wait(
        self,
        *,
        on_output: Callable[[str, bytes], None],
        should_stop: Callable[[], Stop | None],
        grace_seconds: Callable[[Stop], float],
    ) -> tuple[int, Stop | None]:
        """Pass on the output until the process has ended. Return its exit code, and the reason if it was stopped.

        Args:
            on_output: Receives the stream's name, `stdout` or `stderr`, and a chunk.
            should_stop: Polled at least every 50 ms.
            grace_seconds: Returns how long the process may run after SIGTERM before it is killed.
        """
        stop: Stop | None = None
        kill_at = math.inf
        while not self._has_ended():
            self._exchange(on_output)
            if stop is None and (stop := should_stop()) is not None:
                self._terminate()
                kill_at = time.monotonic() + grace_seconds(stop)
            if time.monotonic() >= kill_at:
                self._kill()
        # Processes that it left behind would hold the pipes open, and must not outlive the stage.
        exit_code = self._reap()
        deadline = time.monotonic() + _DRAIN_SECONDS
        is_late = False
        while self._has_output() and not is_late:
            # All of its output is in the pipes by now. One read after the deadline gets what is left.
            is_late = time.monotonic() >= deadline
            self._exchange(on_output)
        return exit_code, stop

    def _exchange(self, on_output: Callable[[str, bytes], None]) -> None:
        """Read and write what the pipes are ready for; wait at most 50 ms."""
        if not self._pipes.get_map():
            # The process has closed all pipes, and is probably about to end.
            self._pause_seconds = min(self._pause_seconds * 2, _POLL_SECONDS)
            time.sleep(self._pause_seconds)
            return
        for key, _ in self._pipes.select(_POLL_SECONDS):
            if key.data == "stdin":
                self._write(key)
            elif chunk := os.read(key.fd, _CHUNK_BYTES):
                on_output(key.data, chunk)
            else:
                self._close(key)

    def _write(self, key: selectors.SelectorKey) -> None:
        try:
            self._unwritten = self._unwritten[os.write(key.fd, self._unwritten[:_CHUNK_BYTES]) :]
        except BrokenPipeError:
            self._unwritten = memoryview(b"")  # The process has closed its standard input.
        if not self._unwritten:
            self._close(key)

    def _close(self, key: selectors.SelectorKey) -> None:
        self._pipes.unregister(key.fileobj)
        key.fileobj.close()  # type: ignore[union-attr]

    def _has_output(self) -> bool:
        return any(key.data != "stdin" for key in self._pipes.get_map().values())

    def _has_ended(self) -> bool:
        """Return whether it has ended, without reaping it: no other process gets its id before it is reaped."""
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _reap(self) -> int:
        if self._process.returncode is None:
            self._kill()
            self._process.wait()
            self._track_process_group(0)
        return self._process.returncode

    def _terminate(self) -> None:
        # Find the descendants now: they are found through their parents, and a parent may end before its child.
        self._terminated = process_tree(self._process.pid)[1:]
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)

    def _kill(self) -> None:
        for process in self._terminated:
            if process.is_running():  # False if another process has its id.
                kill_tree(process.pid)
            elif not psutil.pid_exists(process.pid):  # Its group may have members left.
                kill_group(process.pid)
        kill_tree(self._process.pid)
