"""Copy the output of several processes to one file. Put the time and the name of the process before each line.

What a program prints cannot control the terminal: hidden characters are escapes, colours too.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections import deque
from collections.abc import Iterable
from typing import Protocol

from orchestration.text import escape_line, escape_text

MAX_BACKLOG_BYTES = 1024 * 1024
"""Size of the output that is kept while nothing reads the copy (a paused pager). Older lines are dropped."""

_READ_BYTES = 64 * 1024
_MAX_LINE_BYTES = 64 * 1024
_FINISH_SECONDS = 0.5

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a target that may accept output later."""

_COLORS = (36, 33, 32, 35, 34, 31)
"""ANSI codes of the names, on a terminal."""


class Pipe(Protocol):
    """What output is copied from: a file, or a process that has one."""

    def fileno(self) -> int: ...

    def close(self) -> None: ...


class PrefixedOutput:
    """Copies output without blocking, so that no process waits for the terminal.

    Args:
        target: The file descriptor to write to.
        names: The names of all processes. The longest name sets the width of their column.
    """

    def __init__(self, target: int, *, names: Iterable[str]) -> None:
        self._target: int | None = target
        self._names = list(names)
        self._pipes: dict[int, tuple[str | None, Pipe]] = {}
        self._partial_lines: dict[int, bytes] = {}
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0

    def add(self, name: str, pipe: Pipe) -> None:
        """Copy from this pipe until it is closed at its other end."""
        self._add(name, pipe)

    def add_plain(self, pipe: Pipe) -> None:
        """Copy from this pipe without prefixes."""
        self._add(None, pipe)

    def _add(self, name: str | None, pipe: Pipe) -> None:
        os.set_blocking(pipe.fileno(), False)
        self._pipes[pipe.fileno()] = (name, pipe)
        self._partial_lines[pipe.fileno()] = b""

    def write(self, text: str) -> None:
        """Write a text without a prefix: at once what fits without blocking, and the rest with the copies."""
        self._append(escape_text(text).encode())
        while (targets := self.targets()) and select.select([], targets, [], 0)[1]:
            self._write(targets[0])

    def sources(self) -> list[int]:
        """Return the file descriptors to wait for until they are readable."""
        return list(self._pipes)

    def targets(self) -> list[int]:
        """Return the file descriptor to wait for until it is writable, if output is waiting."""
        return [self._target] if self._backlog and self._target is not None else []

    def copy(self, *, readable: Iterable[int], writable: bool) -> None:
        """Read what these sources have, and write as much as fits without blocking."""
        for source in readable:
            self._read(source)
        if writable and self._target is not None:
            self._write(self._target)

    def finish(self) -> None:
        """Copy the remaining output of processes that have ended."""
        for source in self.sources():
            while self._read(source):
                pass
        while (targets := self.targets()) and select.select([], targets, [], _FINISH_SECONDS)[1]:
            self._write(targets[0])

    def _read(self, source: int) -> bool:
        """Read once, and return whether there may be more."""
        try:
            data = os.read(source, _READ_BYTES)
        except BlockingIOError:
            return False
        name, pipe = self._pipes[source]
        *lines, self._partial_lines[source] = (self._partial_lines[source] + data).split(b"\n")
        if not data or len(self._partial_lines[source]) > _MAX_LINE_BYTES:
            lines += filter(None, [self._partial_lines[source]])
            self._partial_lines[source] = b""
        if not data:
            del self._pipes[source]
            pipe.close()
        for line in lines:
            self._append((b"" if name is None else self._prefix(name)) + _escaped(line) + b"\n")
        return bool(data)

    def _prefix(self, name: str) -> bytes:
        prefix = f"{time.strftime('%H:%M:%S')} {name:{max(map(len, self._names))}} | "
        if self._target is not None and os.isatty(self._target):
            prefix = f"\033[{_COLORS[self._names.index(name) % len(_COLORS)]}m{prefix}\033[0m"
        return prefix.encode()

    def _append(self, line: bytes) -> None:
        self._backlog.append(line)
        self._backlog_bytes += len(line)
        while self._backlog_bytes > MAX_BACKLOG_BYTES:
            self._backlog_bytes -= len(self._backlog.popleft())

    def _write(self, target: int) -> None:
        # A pipe that is writable takes this many bytes without blocking.
        line = self._backlog.popleft()
        try:
            written = os.write(target, line[: select.PIPE_BUF])
        except OSError as error:
            self._backlog_bytes -= len(line)
            if error.errno in _FULL:
                return  # The line is lost. A later one may fit.
            # The reader has closed the pipe or the terminal, as after `make serve | head`. The programs keep running.
            self._target = None
            self._backlog.clear()
            self._backlog_bytes = 0
            return
        self._backlog_bytes -= written
        if written < len(line):
            self._backlog.appendleft(line[written:])


def _escaped(line: bytes) -> bytes:
    """Return the line with hidden characters, and bytes that are not UTF-8, as escapes."""
    return escape_line(line.decode("utf-8", "backslashreplace")).encode()
