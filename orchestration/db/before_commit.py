"""The last statement of a transaction: Django has `on_commit`, which runs after; events must be written just before.

Rows of the log are inserted under a lock that lasts until the commit (see `realtime.eventlog.append`). Inserting them at the moment
of each change would hold that lock while the rest of the transaction takes row locks of its own: two transactions
doing so in a different order would wait for each other. So changes are collected and written together, last.

A collected item is registered as an `on_commit` hook that does nothing: Django itself then forgets it when the
savepoint it was added under is rolled back, and what is still registered when the commit comes is what happened. (That
is so for `atomic()`. Of savepoints made by hand Django's hooks know nothing, so those are seen to here.)

The same mechanism gives the writer the first turn after the commit, before hooks that may be slow or fail.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

_numbers = itertools.count(1)

_WRITER = "_mahavishnu_last_statement_writer"

Write = Callable[[list[Any]], Callable[[], None]]
"""Writes items, and says what to do first of all once they are committed."""


class _Collected:
    """One item of one transaction, which is taken out of the hooks once it is written.

    Attributes:
        number: The later it was collected, the higher.
    """

    def __init__(self, item: Any) -> None:
        self.item = item
        self.number = next(_numbers)

    def __call__(self) -> None:
        return


def collect(item: Any, *, using: str | None = None) -> None:
    """Hand `item` to the writer just before the current transaction commits; never, if it does not."""
    with transaction.atomic(using, savepoint=False):
        transaction.on_commit(_Collected(item), using)


def install(write: Write, *, using: str = DEFAULT_DB_ALIAS) -> None:
    """Call `write` with all that a transaction collected, in order, as its last statements.

    An exception in `write` rolls the transaction back and reaches whoever commits.
    """

    def connected(connection: BaseDatabaseWrapper, **_: Any) -> None:
        if connection.alias == using:
            _wrap(connection, write)

    connection_created.connect(connected, weak=False, dispatch_uid=f"{_WRITER}:{using}")
    if connections[using].connection is not None:
        _wrap(connections[using], write)


def _wrap(connection: BaseDatabaseWrapper, write: Write) -> None:
    if getattr(connection, _WRITER, None) is write:
        return
    commit, savepoint, savepoint_rollback = connection.commit, connection.savepoint, connection.savepoint_rollback
    numbers_at: dict[str | None, int] = {}

    def write_and_commit() -> None:
        items = [hook[1].item for hook in connection.run_on_commit if isinstance(hook[1], _Collected)]
        if items:
            # `Atomic.__exit__` clears the flag before it commits; queries of the writer belong to the same transaction.
            connection.in_atomic_block = True
            try:
                committed = write(items)
            except BaseException:
                connection.in_atomic_block = False
                connection.rollback()
                raise
            connection.in_atomic_block = False
            # Without autocommit, hooks outlive the commit: nothing may be written twice.
            hooks: list[Any] = [hook for hook in connection.run_on_commit if not isinstance(hook[1], _Collected)]
            hooks.insert(0, (set(), committed, True))
            connection.run_on_commit = hooks
        numbers_at.clear()
        commit()

    def numbered_savepoint() -> str | None:
        sid = savepoint()
        numbers_at[sid] = next(_numbers)
        return sid

    def roll_back_and_forget(sid: str) -> None:
        savepoint_rollback(sid)
        number = numbers_at.get(sid, 0)
        connection.run_on_commit = [
            hook
            for hook in connection.run_on_commit
            if not (isinstance(hook[1], _Collected) and hook[1].number > number)
        ]

    connection.commit = write_and_commit  # type: ignore[method-assign]
    connection.savepoint = numbered_savepoint  # type: ignore[method-assign]
    connection.savepoint_rollback = roll_back_and_forget  # type: ignore[method-assign]
    setattr(connection, _WRITER, write)
