"""What the channel layer says while Redis is away: every second, with forty lines of stack trace. Here it is one line.

An hour of that would rotate everything else out of the log.
"""

from __future__ import annotations

import logging

from redis.exceptions import RedisError

REPEAT_AFTER_SECONDS = 60.0


class RateLimitFilter(logging.Filter):
    """Lets a lost connection be logged once a minute, without its stack trace, and everything else as it is."""

    def __init__(self) -> None:
        super().__init__()
        self._said_at: float | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, RedisError | OSError):
            return True
        # A clock that was set back must not silence it.
        if self._said_at is not None and 0 <= record.created - self._said_at < REPEAT_AFTER_SECONDS:
            return False
        self._said_at = record.created
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        record.msg, record.args = "The channel layer has no connection to Redis (%r)", (error,)
        record.exc_info = record.exc_text = None
        return True


class DropTracebackFilter(logging.Filter):
    """Takes the stack trace from what the engine expects, and lets everything else pass as it is."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and (kind := record.exc_info[0]) is not None:
            # Imported here: the settings name this filter, and most of what they are read by has no use for Celery.
            from celery.exceptions import Reject, WorkerLostError

            if issubclass(kind, Reject | WorkerLostError):
                record.exc_info = record.exc_text = None
        return True
