"""The rotating log file, which all processes of an installation write to.

concurrent-log-handler was tried. It holds a lock between processes during each write, so that rotation loses no line.
But a process that is stopped (SIGSTOP) during a write then blocks every other process at its next log line, the event
loops included; the worker supervisor stops the processes that it kills. This handler takes no lock between processes.
"""

from __future__ import annotations

import logging
import os
import sys
from io import TextIOWrapper
from logging.handlers import RotatingFileHandler
from pathlib import Path

from mahavishnu_site.log_handlers import UnwritableFileMixin

MAX_LOG_FILE_BYTES = 10 * 1024 * 1024
MAX_OLD_LOG_FILES = 5


class SharedRotatingFileHandler(UnwritableFileMixin, RotatingFileHandler):
    """Rotates by size, and reopens the file after another process has rotated it.

    Otherwise the process would keep writing to the renamed file, and would then rotate the new one. Lines that another
    process writes at the moment of a rotation can be lost.
    """

    def _open(self) -> TextIOWrapper:
        descriptor = os.open(self.baseFilename, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
        return TextIOWrapper(os.fdopen(descriptor, "ab"), encoding=self.encoding, errors=self.errors)

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802  (the name is logging's)
        """Return whether to rotate before this record."""
        self._reopen_if_rotated()
        return bool(super().shouldRollover(record))

    def _reopen_if_rotated(self) -> None:
        if self.stream is None:
            return
        try:
            named = os.stat(self.baseFilename)
        except FileNotFoundError:
            named = None
        opened = os.fstat(self.stream.fileno())
        if named is None or (named.st_dev, named.st_ino) != (opened.st_dev, opened.st_ino):
            self.stream.close()
            self.stream = self._open()


def open_log_file(path: str) -> logging.Handler:
    """Return the handler of the log file, or one that does nothing if the file cannot be opened.

    The second case is reported on standard error.
    """
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return SharedRotatingFileHandler(
            path, maxBytes=MAX_LOG_FILE_BYTES, backupCount=MAX_OLD_LOG_FILES, encoding="utf-8"
        )
    except OSError as error:
        reason = error.strerror or str(error)
        print(
            f"The log file {path} cannot be opened ({reason}); logging to the console only. "
            "Set MAHAVISHNU_LOG_FILE to another file.",
            file=sys.stderr,
        )
        return logging.NullHandler()
