"""Connections of a stage, in all of its threads, end with its attempt; threads of earlier ones are not its fault."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, transaction

from orchestration.models import Pool
from orchestration.worker.stage_connections import StageConnections

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]


def lock_timeout() -> object:
    """Return a setting of the session, and change it."""
    is_sqlite = connection.vendor == "sqlite"
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA cache_size" if is_sqlite else "SHOW statement_timeout")
        (before,) = cursor.fetchone()
        cursor.execute("PRAGMA cache_size = 77" if is_sqlite else "SET statement_timeout = 77000")
    return before


def test_session_in_a_lasting_thread_ends_with_its_stage() -> None:
    async def stage() -> object:
        return await sync_to_async(lock_timeout)()

    found = []
    for _ in range(2):
        connections = StageConnections()
        with connections.active():
            found.append(asyncio.run(stage()))
        assert (connections.left_open, connections.must_replace) == ([], False)
    assert found[0] == found[1]


@contextmanager
def transaction_in_thread(may_begin: threading.Event) -> Iterator[threading.Event]:
    """Start a thread that holds a transaction; return the event of its begin."""
    has_begun, may_end = threading.Event(), threading.Event()

    def hold() -> None:
        may_begin.wait()
        try:
            with transaction.atomic():
                list(Pool.objects.all())
                has_begun.set()
                may_end.wait()
        except Exception:  # Its connection is closed.
            connection.close()

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        yield has_begun
    finally:
        may_begin.set()
        may_end.set()
        thread.join()


def test_transaction_in_a_thread_of_an_earlier_stage_is_not_blamed_on_the_next() -> None:
    may_begin, connections = threading.Event(), StageConnections()
    with transaction_in_thread(may_begin) as has_begun, connections.active():
        may_begin.set()
        assert has_begun.wait(10)
    assert (connections.left_open, connections.must_replace) == ([], True)


def test_transaction_in_a_thread_of_the_stage_is_its_fault() -> None:
    may_begin, connections = threading.Event(), StageConnections()
    may_begin.set()
    with connections.active():
        threads = transaction_in_thread(may_begin)
        assert threads.__enter__().wait(10)
    threads.__exit__(None, None, None)
    assert (connections.left_open, connections.must_replace) == (["default"], True)
