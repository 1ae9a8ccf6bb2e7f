"""Rows that another transaction holds, in tests that use Django's database."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from django.db import connection
from django.db.models import Model


def limit_lock_waits(monkeypatch: pytest.MonkeyPatch, *, seconds: float) -> None:
    """Have each statement of this thread wait for a lock for this long at most, until the end of the test."""
    options: dict[str, Any] = {"timeout": seconds}
    if connection.vendor == "postgresql":
        options = {"options": f"-c lock_timeout={seconds * 1000:.0f}"}
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", {**connection.settings_dict["OPTIONS"], **options})
    connection.close()


@contextmanager
def row_locked(row: Model) -> Iterator[Callable[[], object]]:
    """Lock a row in another transaction, to the end of the block or a call of the result. SQLite locks everything."""
    other: Any
    if connection.vendor == "postgresql":
        other = psycopg.connect(**connection.get_connection_params())
        statement = f"SELECT 1 FROM {row._meta.db_table} WHERE id = %s FOR UPDATE"
        assert other.execute(statement, [row.pk]).fetchall()
    else:
        other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
    try:
        yield other.rollback
    finally:
        other.rollback()
        other.close()
