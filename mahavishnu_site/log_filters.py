"""Filters that keep expected errors, and lines that clients can cause, from filling the log.

While Redis is unavailable, the channel layer logs an error with forty lines of traceback every second. After an hour,
the log would contain nothing else. A client that sends a hundred requests a second with a foreign `Host` replaced all
of the log within five minutes.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass
from http import HTTPStatus
from threading import Lock
from types import TracebackType
from typing import Final

from redis.exceptions import RedisError

from orchestration.log_throttle import INTERVAL_SECONDS, omitted_lines
from orchestration.text import truncate


class RateLimitFilter(logging.Filter):
    """Passes the error of a lost connection once in `interval_seconds`, without traceback.

    Other records pass unchanged.
    """

    def __init__(self, *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        super().__init__()
        self._interval_seconds = interval_seconds
        self._logged_at: float | None = None

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, RedisError | OSError):
            return True
        now = time.monotonic()
        if self._logged_at is not None and now - self._logged_at < self._interval_seconds:
            return False
        self._logged_at = now
        record.levelno, record.levelname = logging.WARNING, logging.getLevelName(logging.WARNING)
        record.msg, record.args = "The channel layer has no connection to Redis (%r)", (error,)
        record.exc_info = record.exc_text = None
        return True


CLIENT_LOGGERS: Final = (
    "asyncio",
    "autobahn",
    "channels",
    "daphne",
    "django.channels",
    "django.request",
    "django.security",
    "realtime.connection",
    "realtime.consumers",
    "realtime.daphne_server",
    "realtime.health",
    "realtime.views",
    "twisted",
)
"""Loggers, with those below them, whose records a client can cause by what it sends."""

MAX_CLIENT_RECORD_CHARACTERS: Final = 1000
"""The length of their messages; the rest is cut. A path or a header has up to 16 KiB."""

MAX_KINDS: Final = 500
"""How many kinds of records are remembered. The code has fewer."""


@dataclass(slots=True)
class _Kind:
    passed_at: float
    omitted: int = 0


class ClientRecordFilter(logging.Filter):
    """Passes each kind of record that clients can cause once in `interval_seconds`, with the number of omitted ones.

    A kind is a place in the code with its message, without the values in it, and the type and place of the exception.
    The traceback of an error that is the client's (status 4xx) is removed. Records of other loggers pass unchanged.

    It is meant for handlers: `django.security` has a logger for each type of error. Several handlers may share it.

    Args:
        interval_seconds: 0 passes every record.
    """

    def __init__(self, *, interval_seconds: float = INTERVAL_SECONDS) -> None:
        super().__init__()
        self._interval_seconds = interval_seconds
        self._lock = Lock()
        self._kinds: OrderedDict[Hashable, _Kind] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        if not is_from_client(record.name):
            return True
        passes: bool | None = getattr(record, "passes_client_filter", None)
        if passes is None:  # No other handler has asked, and it is not from a `LogThrottle`, which counts itself.
            passes = record.passes_client_filter = self._passes(record)
        elif record.args:  # From a `LogThrottle`: what this filter passes has no arguments.
            _shorten(record, omitted=0)
        return passes

    def _passes(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        kind = kind_of(record)
        with self._lock:
            known = self._kinds.pop(kind, None)
            if known is not None and now - known.passed_at < self._interval_seconds:
                known.omitted += 1
                self._kinds[kind] = known
                return False
            self._kinds[kind] = _Kind(now)
            if len(self._kinds) > MAX_KINDS:
                self._kinds.popitem(last=False)
        _shorten(record, omitted=0 if known is None else known.omitted)
        return True


def is_from_client(name: str) -> bool:
    """Return whether clients can cause records of this logger."""
    return any(name == each or name.startswith(f"{each}.") for each in CLIENT_LOGGERS)


def kind_of(record: logging.LogRecord) -> Hashable:
    """Return what two records have in common that differ only in their values.

    Without arguments, the values may already be in the message, so the place of the call takes its part.
    """
    error, _, traceback = record.exc_info if isinstance(record.exc_info, tuple) else (None, None, None)
    message = record.msg if record.args else ""
    return record.name, record.pathname, record.lineno, message, error, _innermost_line(traceback)


def _innermost_line(traceback: TracebackType | None) -> tuple[str, int] | None:
    if traceback is None:
        return None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback.tb_frame.f_code.co_filename, traceback.tb_lineno


def _shorten(record: logging.LogRecord, *, omitted: int) -> None:
    """Cut the message, add the number of omitted records, and remove the traceback of a client's error."""
    status = getattr(record, "status_code", None)
    if isinstance(status, int) and status < HTTPStatus.INTERNAL_SERVER_ERROR:
        record.exc_info = record.exc_text = None
    message = truncate(record.getMessage(), MAX_CLIENT_RECORD_CHARACTERS)
    record.msg, record.args = message + omitted_lines(omitted), None


class DropTracebackFilter(logging.Filter):
    """Removes the traceback from errors that the engine handles, and passes every other record unchanged."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info and (kind := record.exc_info[0]) is not None:
            # Imported here: every process loads this module, and most processes do not need Celery.
            from celery.exceptions import Reject, WorkerLostError

            if issubclass(kind, Reject | WorkerLostError):
                record.exc_info = record.exc_text = None
        return True
