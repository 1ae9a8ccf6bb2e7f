"""A database that does not answer: how that is told from a refusal, and how it is asked again."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import TypeVar

from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connection

Value = TypeVar("Value")


def is_away(error: BaseException) -> bool:
    """Tell whether this is worth another try, with another connection.

    SQLite's errors of what it was asked, such as `no such column`, have the same class as those of a database that is
    locked or gone, and a code of their own (https://www.sqlite.org/rescode.html#error).
    """
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    return getattr(error.__cause__, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR


def until_answered(call: Callable[[], Value], *, when_away: Callable[[DatabaseError], None]) -> Value:
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
            if connection.in_atomic_block or not is_away(error):
                raise
            connection.close()
            when_away(error)
