"""Django's SQLite backend, with short pauses while it waits for the write lock, and converted placeholders cached.

SQLite itself retries after 1, 2, 5, 10, 15, … and finally every 100 ms (`sqliteDefaultBusyCallback` in its main.c). A
transaction here takes 3 ms. With two workers and one process that starts runs, half of the machine was idle because
writers slept too long. It ran 120 stages a second, and runs 177 with this backend.

Django replaces the placeholders of a statement each time, which takes 6 to 20 µs. A stage executes 16 statements.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from functools import lru_cache
from typing import Any

from django.db.backends.sqlite3 import base
from django.db.backends.utils import debug_transaction

FIRST_PAUSE_SECONDS = 0.0002
LONGEST_PAUSE_SECONDS = 0.001

MAX_CACHED_STATEMENTS = 512
MAX_CACHED_STATEMENT_CHARACTERS = 4096
"""Longer statements, such as those with many rows, are converted each time."""

_PRIMARY_CODE = 0xFF


class DatabaseWrapper(base.DatabaseWrapper):
    """One connection. Its `timeout` option limits the wait, as with Django's own backend."""

    # The type stubs have neither attribute.
    connection: Any
    transaction_mode: str | None

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Connect. Create a missing file closed to other users; SQLite's other files get the same permissions."""
        if not str(conn_params["database"]).startswith((":memory:", "file:")):
            with suppress(OSError):  # It exists, or SQLite reports that it cannot be created.
                os.close(os.open(conn_params["database"], os.O_CREAT | os.O_EXCL, 0o600))
        return super().get_new_connection(conn_params)

    def create_cursor(self, name: str | None = None) -> Any:
        """Return a cursor."""
        return self.connection.cursor(factory=CursorWrapper)

    def _start_transaction_under_autocommit(self) -> None:
        mode = f"BEGIN {self.transaction_mode or ''}".rstrip()
        timeout_seconds = self.settings_dict["OPTIONS"].get("timeout", 5.0)  # sqlite3's own default
        # Writes outside a transaction wait in SQLite's own way.
        self.connection.execute("PRAGMA busy_timeout = 0")
        try:
            with debug_transaction(self, mode), self.wrap_database_errors:
                begin(self.connection, mode, timeout_seconds=timeout_seconds)
        finally:
            self.connection.execute(f"PRAGMA busy_timeout = {int(timeout_seconds * 1000)}")


class CursorWrapper(base.SQLiteCursorWrapper):
    """Django's cursor, which converts a statement once."""

    def convert_query(self, query: str, *, param_names: list[str] | None = None) -> str:
        """Return the statement with SQLite's placeholders."""
        if param_names is None and len(query) <= MAX_CACHED_STATEMENT_CHARACTERS:
            return _convert_positional(query)
        converted: str = super().convert_query(query, param_names=param_names)
        return converted


@lru_cache(maxsize=MAX_CACHED_STATEMENTS)
def _convert_positional(query: str) -> str:
    return base.FORMAT_QMARK_REGEX.sub("?", query).replace("%%", "%")


def begin(connection: sqlite3.Connection, mode: str, *, timeout_seconds: float) -> None:
    """Start a transaction as soon as no other connection writes.

    Raises:
        sqlite3.OperationalError: if the lock was held for the whole timeout (`SQLITE_BUSY`), or on another error.
    """
    deadline = time.monotonic() + timeout_seconds
    pause_seconds = FIRST_PAUSE_SECONDS
    while True:
        try:
            connection.execute(mode)
            return
        except sqlite3.OperationalError as error:
            is_busy = error.sqlite_errorcode & _PRIMARY_CODE == sqlite3.SQLITE_BUSY
            if not is_busy or time.monotonic() > deadline:
                raise
        time.sleep(pause_seconds)
        pause_seconds = min(pause_seconds * 2, LONGEST_PAUSE_SECONDS)
