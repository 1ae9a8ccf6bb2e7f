"""The database as a running stage uses it: in one thread, on the engine's connection, through short outages."""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

from django.db import connection

from orchestration.db.retry import is_unavailable, retry_while_unavailable
from orchestration.limits import engine_limits
from orchestration.log_throttle import LogThrottle
from orchestration.sdk.thread_executor import CallingThreadExecutor
from orchestration.text import text_of

logger = logging.getLogger(__name__)

_dropped_reports = LogThrottle(logger)

Value = TypeVar("Value")


class StageDatabase:
    """Reads and writes of one attempt. The thread that makes this object runs the stage.

    Args:
        label: The run and the stage, for the log.
        engine_connections: A block in which the database connections are the engine's, not those of the stage.
    """

    def __init__(
        self, label: str, engine_connections: Callable[[], AbstractContextManager[None]] = nullcontext
    ) -> None:
        self._label = label
        self._engine_connections = engine_connections
        self._executor = CallingThreadExecutor()
        self._report_timeout_seconds = engine_limits().lease_seconds
        self._held_reports: list[Callable[[], object]] | None = None
        # The transaction of a test, if any, is not one of the stage.
        self._thread_id, self._transaction_depth = threading.get_ident(), len(connection.atomic_blocks)

    @contextmanager
    def held_reports(self) -> Iterator[Callable[[], None]]:
        """Hold log messages and progress back, for a block that is one transaction.

        Yields a function that sends them, to be called at the end of the transaction. If the block raises, they are
        sent afterwards: the transaction was rolled back.
        """
        held = self._held_reports = []

        def send() -> None:
            self._held_reports = None
            for report in held:
                self._report(report)

        try:
            yield send
        except BaseException:
            send()
            raise
        finally:
            self._held_reports = None

    def run_in_db_thread(self, call: Callable[[], Value]) -> Value:
        """Run a call that uses the database, and return its result; for adapters that run stages in another thread."""
        return self._executor.run(call)

    def run_coroutine(self, coroutine: Awaitable[Value]) -> Value:
        """Run a coroutine on a new event loop. It may use every method of this context, from any of its tasks."""
        return self._executor.run_coroutine(coroutine)

    def _report(self, report: Callable[[], object]) -> None:
        """Store a report if that is possible: no stage fails because of one.

        In a stage that is one transaction, it is held back until the end of that. A report
        waits while the database is unavailable. After one was dropped because of that, the next do not wait.
        """
        if self._held_reports is not None:
            self._held_reports.append(report)
            return
        try:
            self._query(report, timeout_seconds=self._report_timeout_seconds)
        except Exception as error:
            if is_unavailable(error):
                self._report_timeout_seconds = 0.0
            self._log_dropped(error)
        else:
            self._report_timeout_seconds = engine_limits().lease_seconds

    def _log_dropped(self, error: Exception) -> None:
        reason = f"{type(error).__name__}: {text_of(error)}"
        _dropped_reports.log("Dropped a report of %s: %s", self._label, reason)

    def _query(self, query: Callable[[], Value], *, timeout_seconds: float | None = None) -> Value:
        """Read or write in the thread that has the database connection; a short outage does not fail the stage.

        Args:
            query: Must be idempotent.
            timeout_seconds: How long to repeat it while the database is unavailable; None means for one lease.
        """
        wait_seconds = engine_limits().lease_seconds if timeout_seconds is None else timeout_seconds

        def run() -> Value:
            with self._engine_connections():
                return retry_while_unavailable(query, timeout_seconds=wait_seconds)

        return self._executor.run(run)

    def _has_transaction(self) -> bool:
        """Return whether this thread is in a transaction of the stage."""
        depth = self._transaction_depth if threading.get_ident() == self._thread_id else 0
        return len(connection.atomic_blocks) > depth
