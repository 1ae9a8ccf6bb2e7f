"""Whether the database does not answer, or answers that what it was asked is wrong."""

from __future__ import annotations

import sqlite3

from django.db import InterfaceError, OperationalError


def is_away(error: BaseException) -> bool:
    """Tell whether this is worth another try, with another connection.

    SQLite's errors of what it was asked, such as `no such column`, have the same class as those of a database that is
    locked or gone, and a code of their own (https://www.sqlite.org/rescode.html#error).
    """
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    return getattr(error.__cause__, "sqlite_errorcode", None) != sqlite3.SQLITE_ERROR
