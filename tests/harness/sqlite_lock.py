"""The write lock of a SQLite database."""

from __future__ import annotations

import sqlite3


def is_writable(database_url: str) -> bool:
    """Return whether no process is writing to a SQLite database: a frozen writer would block all others."""
    if not database_url.startswith("sqlite:///"):
        return True
    connection = sqlite3.connect(database_url.removeprefix("sqlite://"), timeout=0.2, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True
