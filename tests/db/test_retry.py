"""An unavailable database, and one that rejects a statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import psycopg
import pytest
from django.db import Error, OperationalError, connection, transaction

from orchestration.db.retry import is_unavailable, retry_while_unavailable
from orchestration.models import Pool

UNAVAILABLE = "Database unavailable (OperationalError('the connection is closed')); retrying"
AVAILABLE = "Database available again"


def fails(times: int) -> Callable[[], int]:
    """Return a call that finds the database unavailable so many times, and afterwards returns its number of calls."""
    calls = 0

    def call() -> int:
        nonlocal calls
        calls += 1
        if calls <= times:
            raise OperationalError("the connection is closed")
        return calls

    return call


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_rejected_statement_is_not_unavailable() -> None:
    with pytest.raises(Error) as rejection:
        list(Pool.objects.raw("SELECT nothing FROM orchestration_pool"))
    assert not is_unavailable(rejection.value)


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_locked_or_lost_database_is_unavailable() -> None:
    cause: Exception
    if connection.vendor == "sqlite":
        cause = sqlite3.OperationalError("database is locked")
        cause.sqlite_errorcode = sqlite3.SQLITE_BUSY
    else:
        cause = psycopg.OperationalError("the connection is closed")
    with pytest.raises(Error) as failure, connection.wrap_database_errors:
        raise cause
    assert is_unavailable(failure.value)


def test_other_errors_are_not_unavailable() -> None:
    assert not is_unavailable(ValueError("not a database error"))


@pytest.mark.django_db(transaction=True)
def test_retry_reports_the_outage_and_its_end_once() -> None:
    lines: list[str] = []
    assert retry_while_unavailable(fails(3), timeout_seconds=None, report=lines.append) == 4
    assert lines == [UNAVAILABLE, AVAILABLE]


@pytest.mark.django_db(transaction=True)
def test_retry_reports_nothing_without_an_outage() -> None:
    lines: list[str] = []
    assert retry_while_unavailable(fails(0), timeout_seconds=None, report=lines.append) == 1
    assert lines == []


@pytest.mark.django_db(transaction=True)
def test_retry_raises_the_error_after_the_timeout() -> None:
    lines: list[str] = []
    with pytest.raises(OperationalError):
        retry_while_unavailable(fails(1000), timeout_seconds=0.2, report=lines.append)
    assert lines == [UNAVAILABLE]


@pytest.mark.django_db(transaction=True)
def test_retry_calls_once_inside_an_atomic_block() -> None:
    with pytest.raises(OperationalError), transaction.atomic():
        retry_while_unavailable(fails(1), timeout_seconds=None, report=pytest.fail)
