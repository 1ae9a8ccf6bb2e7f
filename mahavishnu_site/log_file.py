"""The rotating log file, which several processes may write to, and whose absence stops nobody."""

from __future__ import annotations

import logging
import os
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path

MAX_LOG_FILE_BYTES = 10 * 1024 * 1024
MAX_OLD_LOG_FILES = 5


class SharedRotatingFileHandler(RotatingFileHandler):
    """Rotates by size, and follows when another process has rotated the same file.

    Without that, the process that had it open would go on writing to the renamed file and then rotate the new one.
    """

    def shouldRollover(self, record: logging.LogRecord) -> bool:  # noqa: N802  (the name is logging's)
        self._follow()
        return bool(super().shouldRollover(record))

    def _follow(self) -> None:
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
    """Return the handler of the log file, or one that does nothing, and say so, when the file cannot be opened."""
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return SharedRotatingFileHandler(
            path, maxBytes=MAX_LOG_FILE_BYTES, backupCount=MAX_OLD_LOG_FILES, encoding="utf-8"
        )
    except OSError as error:
        reason = error.strerror or str(error)
        print(
            f"The log file {path} cannot be opened ({reason}): logging to the console alone. "
            "MAHAVISHNU_LOG_FILE names another file.",
            file=sys.stderr,
        )
        return logging.NullHandler()
