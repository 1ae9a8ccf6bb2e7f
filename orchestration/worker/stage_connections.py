"""Keep the database connections of a stage apart from the engine's, and close them when its attempt has ended.

A stage may leave a transaction open, or change settings of its session, such as `statement_timeout`. On a shared
connection, the engine would record the end of the attempt inside that transaction, and later attempts would run with
those settings.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final
from weakref import WeakSet

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

_opened: WeakSet[BaseDatabaseWrapper] = WeakSet()
"""Every connection that this process has opened, in any thread, while it exists."""


def _remember(connection: BaseDatabaseWrapper, **_: Any) -> None:
    _opened.add(connection)


connection_created.connect(_remember, dispatch_uid=__name__)

_OPEN_STATUSES: Final = (1, 2, 3)
"""Active, in a transaction, in a failed transaction (`PGTransactionStatusType` in libpq-fe.h of Postgres)."""

_inherited: list[Any] = []


def _forget_inherited() -> None:
    """Have a forked process open separate connections: it would send its statements on those of its parent."""
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
    """

    def __init__(self) -> None:
        self.left_open: list[str] = []
        self._thread_id = threading.get_ident()
        self._of_engine: Mapping[str, BaseDatabaseWrapper] = {}

    @contextmanager
    def active(self) -> Iterator[None]:
        """Give the code of the block new connections, and close them at its end."""
        self._of_engine = _exchange({})
        try:
            yield
        finally:
            try:
                self._close()
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
        """Close this thread's connections, and those of other threads that have an open transaction."""
        of_engine = set(self._of_engine.values())
        of_stage = set(connections.all(initialized_only=True))
        for connection in [each for each in _opened if each not in of_engine]:
            if has_transaction(connection):
                self.left_open.append(connection.alias)
                _abort(connection)
        for connection in of_stage:
            with suppress(Exception):  # Its server may have closed it.
                connection.close()
        self.left_open.sort()


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
