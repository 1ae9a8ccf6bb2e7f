"""Database reads for the event loop, in bounded pools of threads. Each thread has one database connection.

Django's `sync_to_async` uses a single thread per process, so one slow query would delay the answers to all clients.
Slow queries of clients may occupy all threads for requests. The relay, the health check, the maintenance of the log,
and the revocations therefore have a thread each.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache, partial
from typing import Generic, ParamSpec, TypeVar

from django.conf import settings
from django.db import Error, connection, transaction

from orchestration.db.retry import is_unavailable

P = ParamSpec("P")
R = TypeVar("R")


@cache
def _request_threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(settings.MAHAVISHNU_LIMITS.database_threads, thread_name_prefix="database")


@cache
def _own_thread(name: str) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, thread_name_prefix=f"database-{name}")


async def in_database_thread(query: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `query` in a database thread for requests of clients, and return its result.

    `query` must be idempotent: it may be called twice. A thread keeps its connection open, and detects a connection
    closed by the database only through an error. (Django would open one for each query: 1.3 ms instead of 0.1 ms on
    SQLite.)
    """
    return await _run(_request_threads(), query, *args, **kwargs)


async def in_relay_thread(query: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `query` as `in_database_thread` does, in the thread of the relay: requests of clients never occupy it."""
    return await _run(_own_thread("relay"), query, *args, **kwargs)


async def in_health_thread(query: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `query` as `in_database_thread` does, in the thread of the health check."""
    return await _run(_own_thread("health"), query, *args, **kwargs)


async def in_maintenance_thread(query: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `query` as `in_database_thread` does, in the thread that prunes and checkpoints the log."""
    return await _run(_own_thread("maintenance"), query, *args, **kwargs)


@cache
def _report_threads() -> ThreadPoolExecutor:
    # Commits wait for each other in any case: on SQLite for the write lock, on Postgres for the lock of the log.
    return ThreadPoolExecutor(2, thread_name_prefix="database-reports")


async def in_report_thread(change: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `change` once, in a thread for changes that clients request.

    It is not repeated if it fails, because it may have committed. So a closed connection is detected before.
    """

    def call() -> R:
        if connection.vendor == "postgresql" and connection.connection is not None and not connection.is_usable():
            connection.close()
        return change(*args, **kwargs)

    return await asyncio.get_running_loop().run_in_executor(_report_threads(), call)


async def in_revocation_thread(query: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `query` as `in_database_thread` does, in the thread that reads what ends the access of clients."""
    return await _run(_own_thread("revocation"), query, *args, **kwargs)


async def _run(threads: ThreadPoolExecutor, query: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    return await asyncio.get_running_loop().run_in_executor(threads, partial(_call, partial(query, *args, **kwargs)))


def _call(query: Callable[[], R]) -> R:
    try:
        return query()
    except Error as error:
        if not is_unavailable(error) or (connection.connection is not None and connection.is_usable()):
            raise
        connection.close()
        return query()


def log_failure(log: logging.Logger, what: str, error: Exception) -> None:
    """Log a failure with a traceback. If the database is unavailable, log one line, because many requests fail then.

    Args:
        log: Logger of the module that failed.
        what: What failed, as the beginning of the log line.
        error: The exception.
    """
    if is_unavailable(error):
        log.warning("%s: database unavailable (%r)", what, error)
    else:
        log.error("%s", what, exc_info=error)


@contextmanager
def consistent_read() -> Iterator[None]:
    """Run the queries of a `with` block on one snapshot of the database. It is read-only and blocks no writer."""
    if connection.vendor == "postgresql":
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield
        return
    # `atomic()` begins an IMMEDIATE transaction here: it would wait for a writer and block the next one.
    with connection.cursor() as cursor:
        cursor.execute("BEGIN DEFERRED")
        try:
            yield
        finally:
            cursor.execute("COMMIT")


K = TypeVar("K")
V = TypeVar("V")

MAX_KEYS_PER_QUERY = 500
"""Keys in one query. Some builds of SQLite allow only 999 parameters."""


class DataLoader(Generic[K, V]):
    """Batches concurrent lookups by key into one query at a time, for one event loop.

    Args:
        query: Returns the values of some keys. A key without a value yields None.
        run: Calls the query in a thread, as `in_database_thread` does.
    """

    def __init__(
        self,
        query: Callable[[list[K]], Mapping[K, V]],
        *,
        run: Callable[[Callable[[list[K]], Mapping[K, V]], list[K]], Awaitable[Mapping[K, V]]],
    ) -> None:
        self._query = query
        self._run = run
        self._pending: dict[K, asyncio.Future[V | None]] = {}
        self._loading: asyncio.Task[None] | None = None

    async def get(self, key: K) -> V | None:
        """Return the value of `key`, read after this call. Re-raises the query's exception."""
        result = self._pending.get(key)
        if result is None:
            result = self._pending[key] = asyncio.get_running_loop().create_future()
        if self._loading is None:
            self._loading = asyncio.create_task(self._load())
        return await asyncio.shield(result)

    async def _load(self) -> None:
        try:
            while self._pending:
                keys = list(self._pending)[:MAX_KEYS_PER_QUERY]
                # Remove the keys before the query: a caller that arrives during the query needs a later read.
                results = [self._pending.pop(key) for key in keys]
                try:
                    values = await self._run(self._query, keys)
                except Exception as error:
                    for result in results:
                        result.set_exception(error)
                        # All callers may be cancelled; asyncio would log the exception as never retrieved.
                        result.exception()
                else:
                    for key, result in zip(keys, results, strict=True):
                        result.set_result(values.get(key))
        finally:
            self._loading = None
