"""How the event loop reads the database: in a bounded pool of threads, each with a connection of its own.

Django's `sync_to_async` runs everything of one process in a single thread, so one slow query would hold up every
client's answer.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import ParamSpec, TypeVar

from django.conf import settings
from django.db import InterfaceError, OperationalError, connection, transaction

from orchestration.db.retry import is_away

P = ParamSpec("P")
R = TypeVar("R")


@cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(settings.MAHAVISHNU_LIMITS.database_threads, thread_name_prefix="database")


async def in_database_thread(query: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `query` in one of the process's database threads and return what it returns.

    `query` may be called twice, so it must not mind: a thread keeps its connection for good, and learns only from an
    error that the database closed it. (Django would open one for each query, which was measured at 1.3 ms instead of
    0.1 ms on SQLite.)
    """
    return await asyncio.get_running_loop().run_in_executor(_threads(), partial(_call, partial(query, *args, **kwargs)))


def _call(query: Callable[[], R]) -> R:
    try:
        return query()
    except (OperationalError, InterfaceError):
        if connection.connection is not None and connection.is_usable():
            raise
        connection.close()
        return query()


def log_failure(log: logging.Logger, what: str, error: Exception) -> None:
    """Log what failed: in a line if the database is away, as many may ask at that time, and else with its trace."""
    if is_away(error):
        log.warning("%s: the database does not answer (%r)", what, error)
    else:
        log.error("%s", what, exc_info=error)


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
