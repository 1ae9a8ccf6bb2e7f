"""Drivers as the harness sees them: programs around one client, with commands and lines as JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.harness.browser import NODE
from tests.harness.programs import PROJECT_DIR

PYTHON = (sys.executable, "-m", "tests.clients.python_driver")
JAVASCRIPT = (NODE, "tests/javascript/driver.mjs")


@dataclass(frozen=True)
class Line:
    """A line of a driver, and when it came."""

    at: float
    content: dict[str, Any]


class DriverEndedError(AssertionError):
    """Raised when a driver has exited; the message has what it wrote to standard error."""


class Driver:
    """A running driver. Lines are consumed in order, separately for each iterator and for the state of the client.

    Args:
        name: The name of the client.
        command: The program.
    """

    def __init__(self, name: str, command: tuple[str, ...]) -> None:
        self.name = name
        self._command = command
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            cwd=PROJECT_DIR,
            env={**os.environ, "PYTHONPATH": f"{PROJECT_DIR / 'clients' / 'python'}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._lines: dict[str, list[Line]] = {}
        self._changed = threading.Condition()
        self._errors: list[str] = []
        self._has_ended = False
        self._threads = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)]
        for thread in self._threads:
            thread.start()

    def send(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def next(self, key: str, *, within_seconds: float) -> Line:
        """Return the next line of an iterator, of `client` or of `done`.

        Raises:
            TimeoutError: if there is none in time.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._lines.get(key) or self._has_ended, within_seconds)
            if lines := self._lines.get(key):
                return lines.pop(0)
            if self._has_ended:
                raise DriverEndedError(f"the driver of {self.name} has ended:\n{''.join(self._errors)}")
            unread = {other: [line.content for line in lines[:3]] for other, lines in self._lines.items()}
            raise TimeoutError(f"{self.name}: nothing for {key!r} within {within_seconds:g} s; unread: {unread}")

    def find(self, key: str, matches: Callable[[dict[str, Any]], bool], *, within_seconds: float) -> Line:
        """Return the next line that matches, and drop those before it."""
        deadline = time.monotonic() + within_seconds
        seen: list[dict[str, Any]] = []
        while True:
            try:
                line = self.next(key, within_seconds=max(0.0, deadline - time.monotonic()))
            except TimeoutError as error:
                raise TimeoutError(f"{error}; dropped: {seen[-3:]}") from None
            if matches(line.content):
                return line
            seen.append(line.content)

    def unread(self, key: str) -> list[dict[str, Any]]:
        """Return the lines that were not taken."""
        with self._changed:
            return [line.content for line in self._lines.get(key, [])]

    def forget(self) -> None:
        """Drop all lines."""
        with self._changed:
            self._lines.clear()

    def restart(self) -> None:
        """Start the program again: a case has failed, and its client may still be open."""
        self._process.kill()
        self.close()
        self._start()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for thread in self._threads:
            thread.join()
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for text in self._process.stdout:
            content = json.loads(text)
            key = content.get("of") or ("client" if "client" in content else "done")
            with self._changed:
                self._lines.setdefault(key, []).append(Line(time.monotonic(), content))
                self._changed.notify_all()
        with self._changed:
            self._has_ended = True
            self._changed.notify_all()

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for text in self._process.stderr:
            self._errors.append(text)
