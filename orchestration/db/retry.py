"""A database that does not answer: how that is told from a refusal, and how it is asked again."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable
from typing import TypeVar

from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connection

from orchestration.limits import engine_limits

Value = TypeVar("Value")


def is_unavailable(error: BaseException) -> bool:
    """Tell whether this is worth another try, with another connection.

    SQLite's errors of what it was asked, such as `no such column`, have the same class as those of a database that is
    locked or gone, and a code of their own (https://www.sqlite.org/rescode.html#error).
    """
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    return getattr(error.__cause__, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR


def call_until_available(call: Callable[[], Value], *, when_away: Callable[[DatabaseError], None]) -> Value:
    """Return what `call` returns. While the database is away, call again and again, with a new connection.

    In a transaction the call is made once: what came before it there is lost.

    Args:
        when_away: Waits between two calls; or gives up, by raising the error that it is given.

    Raises:
        django.db.Error: the database answers, and refuses what it was asked; or it was given up.
    """
    while True:
        try:
            return call()
        except DatabaseError as error:
            if connection.in_atomic_block or not is_unavailable(error):
                raise
            connection.close()
            when_away(error)


logger = logging.getLogger(__name__)

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0


def retry_while_unavailable(call: Callable[[], Value]) -> Value:
    """Return what the call returns; while the database does not answer, call again and again, as long as a lease lasts.

    The call is made outside of any transaction, or once: what came before it in the transaction is lost.

    Raises:
        OperationalError, InterfaceError: the database was away for longer.
    """
    deadline = time.monotonic() + engine_limits().lease_seconds
    pause = _FIRST_PAUSE_SECONDS

    def wait(error: DatabaseError) -> None:
        nonlocal pause
        if time.monotonic() + pause > deadline:
            raise error
        logger.warning("The database does not answer; trying again in %.2f s", pause)
        time.sleep(pause)
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    return call_until_available(call, when_away=wait)
