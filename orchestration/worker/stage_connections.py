"""Keep the database connections of a stage apart from the engine's, and close them when its attempt has ended.

A stage may leave a transaction open, or change settings of its session, such as `statement_timeout`. On a shared
connection, the engine would record the end of the attempt inside that transaction, and later attempts would run with
those settings.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final
from weakref import WeakKeyDictionary

from asgiref.sync import SyncToAsync
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

logger = logging.getLogger(__name__)

_opened: WeakKeyDictionary[BaseDatabaseWrapper, threading.Thread] = WeakKeyDictionary()
"""Every connection that this process has opened, while it exists, with the thread that opened it."""

_lock = threading.RLock()
"""For `_opened`: threads of a stage may open connections while its attempt ends."""


def _remember(connection: BaseDatabaseWrapper, **_: Any) -> None:
    with _lock:
        _opened[connection] = threading.current_thread()


connection_created.connect(_remember, dispatch_uid=__name__)

_OPEN_STATUSES: Final = (1, 2, 3)
"""Active, in a transaction, in a failed transaction (`PGTransactionStatusType` in libpq-fe.h of Postgres)."""

_inherited: list[Any] = []


def _forget_inherited() -> None:
    """Have a forked process open separate connections: it would send its statements on those of its parent."""
    global _lock
    _lock = threading.RLock()
    for connection in list(_opened):
        # Kept, because the end of the object could close the parent's connection.
        _inherited.append(connection.connection)
        connection.connection = None


os.register_at_fork(after_in_child=_forget_inherited)


class StageConnections:
    """The connections of one attempt. The thread that makes this object runs the stage.

    Attributes:
        left_open: After `active()`: the databases, by alias, in which the stage had left a transaction open. Those
            transactions are rolled back.
        must_replace: After `active()`: whether a transaction was rolled back. What holds it, in this stage or in a
            thread that an earlier one had left, may later end it in the middle of another.
    """

    def __init__(self) -> None:
        self.left_open: list[str] = []
        self.must_replace = False
        self._thread_id = threading.get_ident()
        self._of_engine: Mapping[str, BaseDatabaseWrapper] = {}
        self._earlier_threads: list[threading.Thread] = []

    @contextmanager
    def active(self) -> Iterator[None]:
        """Give the code of the block new connections, and close them at its end."""
        self._earlier_threads = threading.enumerate()
        self._of_engine = _exchange({})
        try:
            yield
        finally:
            try:
                self._close()
            except Exception:
                # The result of the stage must be recorded in any case.
                logger.exception("Cannot close the connections of a stage; its process is replaced")
                self.must_replace = True
            finally:
                _exchange(self._of_engine)

    @contextmanager
    def of_engine(self) -> Iterator[None]:
        """Within `active()`, use the engine's connections in the block.

        Inside a transaction of the stage, its connection is used: on SQLite, another one would wait for that
        transaction. Other threads have separate connections.
        """
        if threading.get_ident() != self._thread_id or _in_transaction():
            yield
            return
        of_stage = _exchange(self._of_engine)
        try:
            yield
        finally:
            self._of_engine = _exchange(of_stage)

    def _close(self) -> None:
        """Close all connections but the engine's, in every thread: their sessions end with the attempt."""
        of_engine = set(self._of_engine.values())
        with _lock:
            opened = [each for each in _opened.items() if each[0] not in of_engine]
        for connection, thread in opened:
            if connection.connection is None:
                continue
            if has_transaction(connection):
                self.must_replace = True
                if self._is_of_attempt(thread):
                    self.left_open.append(connection.alias)
                _abort(connection)
            _close_session(connection)
        self.left_open.sort()

    def _is_of_attempt(self, thread: threading.Thread) -> bool:
        """Return whether a thread works for this stage, not for an earlier one of this process."""
        if thread.ident == self._thread_id or thread not in self._earlier_threads:
            return True
        return thread in SyncToAsync.single_thread_executor._threads  # It lasts, and serves each stage in turn.


def _close_session(connection: BaseDatabaseWrapper) -> None:
    connection.inc_thread_sharing()
    try:
        with suppress(Exception):  # Its server may have closed it.
            connection.close()
    finally:
        connection.dec_thread_sharing()


def _exchange(incoming: Mapping[str, BaseDatabaseWrapper]) -> Mapping[str, BaseDatabaseWrapper]:
    """Replace the connections of this thread, and return those that it had."""
    outgoing = {connection.alias: connection for connection in connections.all(initialized_only=True)}
    for alias in outgoing:
        del connections[alias]
    for alias, connection in incoming.items():
        connections[alias] = connection
    return outgoing


def _in_transaction() -> bool:
    return any(connection.in_atomic_block for connection in connections.all(initialized_only=True))


def has_transaction(connection: BaseDatabaseWrapper) -> bool:
    """Return whether a transaction is open, also one that Django does not know, as after a `BEGIN` in SQL."""
    driver: Any = connection.connection
    if driver is None:
        return False
    if connection.in_atomic_block:
        return True
    if connection.vendor == "sqlite":
        try:
            return bool(driver.in_transaction)
        except sqlite3.ProgrammingError:  # It is closed.
            return False
    session = getattr(driver, "pgconn", None)
    # Drivers of other databases do not show it. There, what Django knows must do.
    return session is not None and session.transaction_status in _OPEN_STATUSES


def _abort(connection: BaseDatabaseWrapper) -> None:
    """Roll back at once, although another thread may use the connection, and close it."""
    driver: Any = connection.connection
    with suppress(Exception):
        if connection.vendor == "sqlite":
            driver.interrupt()
            driver.rollback()
    with suppress(Exception):
        driver.close()
