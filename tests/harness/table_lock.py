"""Locks a table, so that every query of it waits; counts the queries that wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from tests.harness.server import MahavishnuServer

_LOCK = """
from django.db import connection, transaction
transaction.set_autocommit(False)
with connection.cursor() as cursor:
    cursor.execute("LOCK TABLE orchestration_workflow IN ACCESS EXCLUSIVE MODE")
"""
_UNLOCK = """
from django.db import transaction
transaction.rollback()
transaction.set_autocommit(True)
"""


@contextmanager
def workflows_locked(server: MahavishnuServer) -> Iterator[None]:
    """Lock the workflow table of a server on Postgres, from another process, to the end of the block."""
    locker = server.driver()
    locker.execute(_LOCK)
    try:
        yield
    finally:
        locker.execute(_UNLOCK)


def blocked_queries(server: MahavishnuServer) -> int:
    """Return how many queries on the database of a server, on Postgres, wait for a lock."""
    with psycopg.connect(server.database_url, autocommit=True) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
    assert row is not None
    return int(row[0])
