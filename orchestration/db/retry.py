"""Retry while the database is unavailable: it restarts, is locked, or cannot be reached."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from typing import Final, TypeVar

from django.db import InterfaceError, OperationalError, connection
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_before_delay, stop_never, wait_exponential

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

# Lock timeout, statement timeout, deadlock, serialization failure
# (https://www.postgresql.org/docs/current/errcodes-appendix.html).
_CONTENDED_STATES: Final = frozenset({"55P03", "57014", "40P01", "40001"})

# Transactions that Postgres has ended together with their sessions: idle for too long, open for too long.
_ENDED_STATES: Final = frozenset({"25P03", "25P04"})

_FIRST_PAUSE_SECONDS: Final = 0.05
_MAX_PAUSE_SECONDS: Final = 1.0


def is_unavailable(error: BaseException) -> bool:
    """Check whether the error means that the database is unavailable, so that a retry on a new connection may succeed.

    SQLite raises `OperationalError` both for a locked database and for a faulty statement (`no such column`). Only the
    faulty statement has the code `SQLITE_ERROR` (https://www.sqlite.org/rescode.html#error).
    """
    if _state_of(error) in _ENDED_STATES:
        return True
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    return getattr(error.__cause__, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR


def is_contended(error: BaseException) -> bool:
    """Check whether the error means that another transaction holds a row, while the database itself is available.

    Only Postgres locks rows. On SQLite, a lock makes the whole database unavailable to writers.
    """
    return _state_of(error) in _CONTENDED_STATES


def _state_of(error: BaseException) -> str | None:
    return getattr(error.__cause__, "sqlstate", None)


def retry_while_unavailable(
    call: Callable[[], Value],
    *,
    timeout_seconds: float | None,
    is_expired: Callable[[], bool] = lambda: False,
    report: Callable[[str], None] = logger.warning,
) -> Value:
    """Return the value of `call`. While the database is unavailable, repeat it on a new connection.

    Inside an atomic block the call is made once: the earlier statements of the block were lost with the connection.

    Args:
        call: Must be idempotent: a call that failed may have committed.
        timeout_seconds: No retry starts later than this many seconds after the first call; None means no limit.
        is_expired: Returns whether no further retry may start.
        report: Receives a line when the database becomes unavailable, and one when it is available again.

    Raises:
        OperationalError, InterfaceError: if the database is still unavailable at the end of the retries.
        django.db.Error: if the database rejects the statement.
    """

    def report_first(state: RetryCallState) -> None:
        if state.attempt_number == 1:
            error = None if state.outcome is None else state.outcome.exception()
            report(f"Database unavailable ({error!r}); retrying")

    stop_at_timeout = stop_never if timeout_seconds is None else stop_before_delay(timeout_seconds)
    retrying = Retrying(
        retry=retry_if_exception(_may_retry),
        wait=wait_exponential(multiplier=_FIRST_PAUSE_SECONDS, max=_MAX_PAUSE_SECONDS),
        stop=lambda state: is_expired() or stop_at_timeout(state),
        after=lambda _state: connection.close(),
        before_sleep=report_first,
        reraise=True,
    )
    value = retrying(call)
    if retrying.statistics["attempt_number"] > 1:
        report("Database available again")
    return value


def _may_retry(error: BaseException) -> bool:
    return is_unavailable(error) and not connection.in_atomic_block
