"""How the event loop reads the database: in a bounded pool of threads, each with a connection of its own.

Django's `sync_to_async` runs everything of one process in a single thread, so one slow query would hold up every
client's answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import ParamSpec, TypeVar

from channels.db import database_sync_to_async
from django.conf import settings
from django.db import connection, transaction

P = ParamSpec("P")
R = TypeVar("R")


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(settings.MAHAVISHNU_LIMITS.database_threads, thread_name_prefix="database")


async def in_database_thread(query: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `query` in one of the process's database threads and return what it returns."""
    call = database_sync_to_async(query, thread_sensitive=False, executor=_threads())
    result: R = await call(*args, **kwargs)
    return result


@contextmanager
def one_moment() -> Iterator[None]:
    """Every query inside sees the database as it was at the first one; nothing is written and no writer waits."""
    if connection.vendor == "postgresql":
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield
        return
    # `atomic()` would be IMMEDIATE here, and so would wait for the writer and hold up the next one.
    with connection.cursor() as cursor:
        cursor.execute("BEGIN DEFERRED")
        try:
            yield
        finally:
            cursor.execute("COMMIT")
