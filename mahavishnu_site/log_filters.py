"""Filters that keep expected errors of libraries from filling the log.

While Redis is unavailable, the channel layer logs an error with forty lines of traceback every second. After an hour,
the log would contain nothing else.
"""

from __future__ import annotations

import logging

from redis.exceptions import RedisError

REPEAT_AFTER_SECONDS = 60.0


class RateLimitFilter(logging.Filter):
    """Passes the error of a lost connection once a minute, without traceback. Passes other records unchanged."""

    def __init__(self) -> None:
        super().__init__()
        self._logged_at: float | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, RedisError | OSError):
            return True
        # A clock that is set back must not suppress the record.
        if self._logged_at is not None and 0 <= record.created - self._logged_at < REPEAT_AFTER_SECONDS:
            return False
        self._logged_at = record.created
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        record.msg, record.args = "The channel layer has no connection to Redis (%r)", (error,)
        record.exc_info = record.exc_text = None
        return True


class DropTracebackFilter(logging.Filter):
    """Removes the traceback from errors that the engine handles, and passes every other record unchanged."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and (kind := record.exc_info[0]) is not None:
            # Imported here: every process loads this module, and most processes do not need Celery.
            from celery.exceptions import Reject, WorkerLostError

            if issubclass(kind, Reject | WorkerLostError):
                record.exc_info = record.exc_text = None
        return True
