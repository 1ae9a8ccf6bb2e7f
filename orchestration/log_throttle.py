"""Log lines that strangers can cause: the first at once, then one in an interval with the number of those left out."""

from __future__ import annotations

import logging
import time
from threading import Lock
from typing import Final

from django.conf import settings

INTERVAL_SECONDS: Final = 60.0
"""The default of `MAHAVISHNU_LOG_REPEAT_SECONDS`."""

PASSED: Final = {"passes_client_filter": True}
"""What records have that were let through here. `log_filters.ClientRecordFilter` of the site does not count them again.
"""


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
        """Log a line, unless one was logged within the last `MAHAVISHNU_LOG_REPEAT_SECONDS`. With 0, log each."""
        interval_seconds: float = settings.MAHAVISHNU_LOG_REPEAT_SECONDS
        now = time.monotonic()
        with self._lock:
            if self._logged_at is not None and now - self._logged_at < interval_seconds:
                self._omitted += 1
                return
            omitted, self._omitted = self._omitted, 0
            self._logged_at = now
        if omitted:
            message, args = f"{message}%s", (*args, omitted_lines(omitted))
        self._logger.log(self._level, message, *args, extra=PASSED)


def omitted_lines(omitted: int) -> str:
    """Return the end of a line after which some were left out, and nothing if none were."""
    return f" ({omitted} such lines were left out since the last one)" if omitted else ""
