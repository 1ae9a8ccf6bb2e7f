"""A database that does not answer, and one that answers that it was asked something wrong."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
from django.db import Error, connection

from orchestration.db.retry import is_unavailable
from orchestration.models import Pool


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_an_answer_that_there_is_no_such_column_is_an_answer() -> None:
    with pytest.raises(Error) as refusal:
        list(Pool.objects.raw("SELECT nothing FROM orchestration_pool"))
    assert not is_unavailable(refusal.value)


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_locked_or_gone_does_not_answer() -> None:
    gone: Exception
    if connection.vendor == "sqlite":
        gone = sqlite3.OperationalError("database is locked")
        gone.sqlite_errorcode = sqlite3.SQLITE_BUSY
    else:
        gone = psycopg.OperationalError("the connection is closed")
    with pytest.raises(Error) as failure, connection.wrap_database_errors:
        raise gone
    assert is_unavailable(failure.value)


def test_other_errors_are_none_of_the_database() -> None:
    assert not is_unavailable(ValueError("a fault of ours"))
