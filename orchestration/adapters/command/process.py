"""A subprocess from its start to its end, and to the end of all that it started."""

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

from orchestration.processes import descendants, kill_tree
from orchestration.worker import child

_FIRST_LOOK_SECONDS: Final = 0.0005
_LOOK_SECONDS: Final = 0.05
_LAST_WORDS_SECONDS: Final = 0.5
_CHUNK_BYTES: Final = 64 * 1024


class Stop(enum.Enum):
    """Why a subprocess is asked to end."""

    UNWANTED = "its run has ended"
    TOO_LONG = "it took too long"


class Subprocess:
    """A subprocess in a session of its own. Leaving it as a context manager ends it with all that it started.

    Args:
        given: What it reads on standard input.

    Raises:
        OSError: it cannot be started.
    """

    def __init__(
        self, argv: Sequence[str], *, cwd: str | None, environment: Mapping[str, str], given: bytes = b""
    ) -> None:
        self._process = subprocess.Popen(
            argv,
            cwd=cwd,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        child.track_process_group(self._process.pid)
        self._ungiven = memoryview(given)
        self._doomed: list[int] = []
        self._pause_seconds = _FIRST_LOOK_SECONDS
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
        hear: Callable[[str, bytes], None],
        should_stop: Callable[[], Stop | None],
        grace_seconds: Callable[[Stop], float],
    ) -> tuple[int, Stop | None]:
        """Hand on what it prints until it has ended; return its exit code, and why it was stopped if it was.

        Args:
            hear: Takes the stream's name, `stdout` or `stderr`, and what was printed.
            should_stop: Asked at least every 50 ms.
            grace_seconds: How long it may take to end after SIGTERM; then it is killed.
        """
        stop: Stop | None = None
        kill_at = math.inf
        while not self._has_ended():
            self._exchange(hear)
            if stop is None and (stop := should_stop()) is not None:
                self._terminate()
                kill_at = time.monotonic() + grace_seconds(stop)
            if time.monotonic() >= kill_at:
                self._kill()
        # What it leaves behind would hold the pipes open, and is not to outlive the stage.
        exit_code = self._reap()
        deadline = time.monotonic() + _LAST_WORDS_SECONDS
        is_late = False
        while self._is_printing() and not is_late:
            # What it has printed by then is in the pipes, and taken at once, however late it is.
            is_late = time.monotonic() >= deadline
            self._exchange(hear)
        return exit_code, stop

    def _exchange(self, hear: Callable[[str, bytes], None]) -> None:
        """Read and write what can be, within a moment."""
        if not self._pipes.get_map():
            # It has closed them all, and so is most likely about to end.
            self._pause_seconds = min(self._pause_seconds * 2, _LOOK_SECONDS)
            time.sleep(self._pause_seconds)
            return
        for key, _ in self._pipes.select(_LOOK_SECONDS):
            if key.data == "stdin":
                self._give(key)
            elif chunk := os.read(key.fd, _CHUNK_BYTES):
                hear(key.data, chunk)
            else:
                self._close(key)

    def _give(self, key: selectors.SelectorKey) -> None:
        try:
            self._ungiven = self._ungiven[os.write(key.fd, self._ungiven[:_CHUNK_BYTES]) :]
        except BrokenPipeError:
            self._ungiven = memoryview(b"")  # It does not want to know.
        if not self._ungiven:
            self._close(key)

    def _close(self, key: selectors.SelectorKey) -> None:
        self._pipes.unregister(key.fileobj)
        key.fileobj.close()  # type: ignore[union-attr]

    def _is_printing(self) -> bool:
        return any(key.data != "stdin" for key in self._pipes.get_map().values())

    def _has_ended(self) -> bool:
        """Tell whether it has, and leave it to be reaped: until then nobody else has its number."""
        if self._process.returncode is not None:
            return True
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _reap(self) -> int:
        if self._process.returncode is None:
            self._kill()
            self._process.wait()
            child.track_process_group(0)
        return self._process.returncode

    def _terminate(self) -> None:
        # They are known by their parents, who may end first.
        self._doomed = descendants(self._process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)

    def _kill(self) -> None:
        for pid in (*self._doomed, self._process.pid):
            kill_tree(pid)
