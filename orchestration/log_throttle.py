"""Log lines that would repeat: those that strangers can cause, and those of an outage.

Of the first kind, one or a few are logged in an interval, with the number of those left out. An outage has one line
when it begins and one when it ends.
"""

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
        max_lines: How many are logged in `MAHAVISHNU_LOG_REPEAT_SECONDS`.
    """

    def __init__(self, logger: logging.Logger, *, level: int = logging.WARNING, max_lines: int = 1) -> None:
        self._logger = logger
        self._level = level
        self._max_lines = max_lines
        self._lock = Lock()
        self._interval_began_at: float | None = None
        self._lines = 0
        self._omitted = 0

    def log(self, message: str, *args: object) -> None:
        """Log a line, unless `max_lines` were logged since the interval began. If the interval is 0, log each."""
        interval_seconds: float = settings.MAHAVISHNU_LOG_REPEAT_SECONDS
        now = time.monotonic()
        with self._lock:
            if self._interval_began_at is None or now - self._interval_began_at >= interval_seconds:
                self._interval_began_at, self._lines = now, 0
            if self._lines >= self._max_lines:
                self._omitted += 1
                return
            self._lines += 1
            omitted, self._omitted = self._omitted, 0
        if omitted:
            message, args = f"{message}%s", (*args, omitted_lines(omitted))
        self._logger.log(self._level, message, *args, extra=PASSED)


class OutageLog:
    """The two lines of an outage: its first error, and its end. Thread-safe.

    Args:
        logger: Where the lines go, as warnings.
        failed: The line of the first error.
        recovered: The line of the end.

    Attributes:
        is_active: Whether the last call failed.
    """

    def __init__(self, logger: logging.Logger, *, failed: str, recovered: str) -> None:
        self._logger = logger
        self._failed = failed
        self._recovered = recovered
        self._lock = Lock()
        self.is_active = False

    def record_failure(self, *args: object) -> None:
        """Log `failed` with these arguments if the outage begins."""
        if self._changes_to(True):
            self._logger.warning(self._failed, *args)

    def record_success(self, *args: object) -> bool:
        """Log `recovered` with these arguments if an outage ends, and return whether one does."""
        # Without the lock: most calls succeed.
        if not self.is_active or not self._changes_to(False):
            return False
        self._logger.warning(self._recovered, *args)
        return True

    def _changes_to(self, is_active: bool) -> bool:
        with self._lock:
            changes = self.is_active != is_active
            self.is_active = is_active
        return changes


def omitted_lines(omitted: int) -> str:
    """Return the end of a line after which some were left out, and nothing if none were."""
    return f" ({omitted} such lines were left out since the last one)" if omitted else ""
