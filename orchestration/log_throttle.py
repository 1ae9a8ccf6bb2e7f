"""Log lines that strangers can cause: the first at once, then one a minute with the number of those left out."""

from __future__ import annotations

import logging
import time
from threading import Lock

INTERVAL_SECONDS = 60.0


class LogThrottle:
    """One kind of log line. Thread-safe.

    Args:
        logger: Where the lines go.
        level: Their level.
    """

    def __init__(self, logger: logging.Logger, *, level: int = logging.WARNING) -> None:
        self._logger = logger
        self._level = level
        self._lock = Lock()
        self._logged_at: float | None = None
        self._omitted = 0

    def log(self, message: str, *args: object) -> None:
        """Log a line, unless one was logged within the last minute."""
        now = time.monotonic()
        with self._lock:
            if self._logged_at is not None and now - self._logged_at < INTERVAL_SECONDS:
                self._omitted += 1
                return
            omitted, self._omitted = self._omitted, 0
            self._logged_at = now
        if omitted:
            message, args = f"{message}%s", (*args, omitted_lines(omitted))
        self._logger.log(self._level, message, *args)


def omitted_lines(omitted: int) -> str:
    """Return the end of a line after which some were left out, and nothing if none were."""
    return f" ({omitted} such lines were left out since the last one)" if omitted else ""
