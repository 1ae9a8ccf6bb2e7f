"""The SQLite backend: how a writer waits for the write lock, and how placeholders are converted."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from mahavishnu_site.databases import SQLITE_TIMEOUT_SECONDS
from mahavishnu_site.sqlite.base import MAX_CACHED_STATEMENT_CHARACTERS, begin
from orchestration.models import Pool


@pytest.fixture
def other(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """Give another writer of the same file, inside a transaction."""
    other = connect(tmp_path)
    other.execute("BEGIN IMMEDIATE")
    yield other
    other.close()


def connect(directory: Path) -> sqlite3.Connection:
    """Connect in WAL mode, as the project does: with a rollback journal, COMMIT fails beside a reader."""
    connection = sqlite3.connect(directory / "file.sqlite3", timeout=0, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode=WAL")
    return connection


def test_begin_waits_until_the_other_transaction_ends(tmp_path: Path, other: sqlite3.Connection) -> None:
    mine = connect(tmp_path)
    thread = threading.Thread(target=begin, args=(mine, "BEGIN IMMEDIATE"), kwargs={"timeout_seconds": 20})
    thread.start()
    thread.join(timeout=0.2)
    assert thread.is_alive()
    assert not mine.in_transaction
    other.execute("COMMIT")
    thread.join(timeout=60)
    # The write lock is taken now.
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        other.execute("BEGIN IMMEDIATE")
    mine.close()


def test_begin_fails_after_the_timeout(tmp_path: Path, other: sqlite3.Connection) -> None:
    mine = connect(tmp_path)
    began = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="database is locked"):
        begin(mine, "BEGIN IMMEDIATE", timeout_seconds=0.3)
    assert time.monotonic() - began >= 0.3
    mine.close()


def test_begin_raises_other_errors_at_once(tmp_path: Path) -> None:
    mine = connect(tmp_path)
    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        begin(mine, "BEGIN TOMORROW", timeout_seconds=1000)
    mine.close()


@pytest.mark.django_db(transaction=True)
def test_backend_raises_djangos_error_and_restores_the_busy_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = connection.settings_dict["NAME"]
    options = connection.settings_dict["OPTIONS"]
    other = sqlite3.connect(name, timeout=0, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setitem(options, "timeout", 0.1)
        with pytest.raises(OperationalError, match="database is locked"), transaction.atomic():
            Pool.objects.create(id="never")
        monkeypatch.setitem(options, "timeout", SQLITE_TIMEOUT_SECONDS)
        other.execute("COMMIT")
        with transaction.atomic():
            Pool.objects.create(id="pool")
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout")
            assert cursor.fetchone() == (SQLITE_TIMEOUT_SECONDS * 1000,)
    finally:
        other.close()
    assert list(Pool.objects.values_list("pk", flat=True)) == ["pool"]


LONG = MAX_CACHED_STATEMENT_CHARACTERS // len("%s, ") + 1


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("statement", "values", "row"),
    [
        ("SELECT %s, '%%s', %s", ["a", 2], ("a", "%s", 2)),
        ("SELECT '%s'", None, ("%s",)),
        ("SELECT %(name)s, %(name)s", {"name": "%s"}, ("%s", "%s")),
        (f"SELECT {'%s, ' * LONG}1", [7] * LONG, (*[7] * LONG, 1)),
    ],
)
def test_backend_binds_each_kind_of_placeholder(statement: str, values: Any, row: tuple[Any, ...]) -> None:
    with connection.cursor() as cursor:
        for _time in range(2):
            cursor.execute(statement, values)
            assert cursor.fetchone() == row
