"""Write collected items just before a transaction commits. Django only has `on_commit`, which runs afterwards.

Rows of the event log are inserted under a lock that is held until the commit (see `realtime.eventlog.append`).
Inserting them at each change would hold that lock while the rest of the transaction locks other rows: two transactions
that lock in a different order would deadlock. So changes are collected, and written together at the end.

A collected item is registered as an `on_commit` hook that does nothing. Django drops the hook when the savepoint around
it is rolled back, so the hooks that remain at the commit are the changes that happened. (That applies to `atomic()`. If
a savepoint made by hand is rolled back, Django keeps the hooks, and this module drops the items.)

A before-commit writer may return a callback. It runs first after the commit, before hooks that may be slow or fail.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

_numbers = itertools.count(1)

_INSTALLED = "_mahavishnu_before_commit"


class Phase(IntEnum):
    """When a writer runs, relative to the other writers of a transaction."""

    SUMMARIZE = 1
    """Sends one summary of all changes. It may collect items for `LOG`."""

    LOG = 2
    """Writes the events of the transaction, under the lock of the log."""

    ANSWER = 3
    """Writes the last statement of the transaction: what its caller is answered, which names its events."""


Write = Callable[[list[Any]], Callable[[], None] | None]
"""Writes items. Returns a callback to run first after the commit, or None."""


@dataclass(frozen=True, slots=True)
class _Writer:
    phase: Phase
    item_type: type[Any]
    write: Write


# By database alias, in the order in which they run.
_writers: dict[str, list[_Writer]] = {}

_item_types: dict[str, tuple[type[Any], ...]] = {}

_recordings: list[list[Any]] = []


class _Collected:
    """One item of one transaction. It is removed from the hooks once it is written.

    Attributes:
        number: Position in the order in which items were collected and savepoints were made.
    """

    def __init__(self, item: Any) -> None:
        self.item = item
        self.number = next(_numbers)

    def __call__(self) -> None:
        return


def collect(item: Any, *, using: str | None = None) -> None:
    """Pass `item` to the writer of its type just before the current transaction commits, if it commits.

    Raises:
        LookupError: if no writer of this type is installed on the database. The item would be lost silently.
    """
    alias = using or DEFAULT_DB_ALIAS
    if not isinstance(item, _item_types.get(alias, ())):
        raise LookupError(
            f"No writer of {type(item).__name__} is installed on the database {alias!r}; "
            f"installed on: {', '.join(sorted(_writers)) or 'none'}. The models of orchestration and realtime must "
            f"be in {DEFAULT_DB_ALIAS!r}."
        )
    connection = connections[alias]
    if connection.in_atomic_block:
        connection.on_commit(_Collected(item))
        return
    with transaction.atomic(using, savepoint=False):
        connection.on_commit(_Collected(item))


@contextmanager
def recorded(using: str = DEFAULT_DB_ALIAS) -> Iterator[Callable[[], list[Any]]]:
    """Record what this block collects; for tests.

    Yields:
        A function that returns the items so far, in order: the written ones, and those of the open transaction. An item
        that was rolled back is not among them.
    """
    written: list[Any] = []
    pending_before = len(_pending(connections[using]))
    _recordings.append(written)
    try:
        yield lambda: [*written, *_pending(connections[using])[pending_before:]]
    finally:
        # By identity: two empty lists are equal.
        _recordings[:] = [each for each in _recordings if each is not written]


def install(item_type: type[Any], write: Write, *, phase: Phase, using: str = DEFAULT_DB_ALIAS) -> None:
    """Call `write` with all items of a type that a transaction collected, in order, before it commits.

    An exception in `write` rolls the transaction back and is raised by the commit.
    """
    others = [writer for writer in _writers.get(using, ()) if writer.item_type is not item_type]
    _writers[using] = sorted([*others, _Writer(phase, item_type, write)], key=lambda writer: writer.phase)
    _item_types[using] = tuple(writer.item_type for writer in _writers[using])

    def connected(connection: BaseDatabaseWrapper, **_: Any) -> None:
        if connection.alias == using:
            _wrap(connection)

    connection_created.connect(connected, weak=False, dispatch_uid=f"{_INSTALLED}:{using}")
    if connections[using].connection is not None:
        _wrap(connections[using])


def _wrap(connection: BaseDatabaseWrapper) -> None:
    if getattr(connection, _INSTALLED, False):
        return
    commit, savepoint, savepoint_rollback = connection.commit, connection.savepoint, connection.savepoint_rollback
    numbers_at: dict[str | None, int] = {}

    def write_and_commit() -> None:
        if any(isinstance(hook[1], _Collected) for hook in connection.run_on_commit):
            # `Atomic.__exit__` clears the flag before it commits, but the writers' queries belong to this transaction.
            connection.in_atomic_block = True
            try:
                after_commit = _run_writers(connection)
            except BaseException:
                connection.in_atomic_block = False
                connection.rollback()
                raise
            connection.in_atomic_block = False
            # Without autocommit, Django keeps the hooks after the commit. Remove the written items: none is written
            # twice.
            hooks: list[Any] = [hook for hook in connection.run_on_commit if not isinstance(hook[1], _Collected)]
            hooks[:0] = [(set(), callback, True) for callback in after_commit]
            connection.run_on_commit = hooks
        numbers_at.clear()
        commit()

    def numbered_savepoint() -> str | None:
        sid = savepoint()
        numbers_at[sid] = next(_numbers)
        return sid

    def roll_back_and_drop_items(sid: str) -> None:
        savepoint_rollback(sid)
        number = numbers_at.get(sid, 0)
        connection.run_on_commit = [
            hook
            for hook in connection.run_on_commit
            if not (isinstance(hook[1], _Collected) and hook[1].number > number)
        ]

    connection.commit = write_and_commit  # type: ignore[method-assign]
    connection.savepoint = numbered_savepoint  # type: ignore[method-assign]
    connection.savepoint_rollback = roll_back_and_drop_items  # type: ignore[method-assign]
    setattr(connection, _INSTALLED, True)


def _run_writers(connection: BaseDatabaseWrapper) -> list[Callable[[], None]]:
    """Run the writers in order; return what to run after the commit. A writer may collect items for a later one."""
    callbacks: list[Callable[[], None]] = []
    for writer in _writers[connection.alias]:
        items = [item for item in _pending(connection) if isinstance(item, writer.item_type)]
        if items and (callback := writer.write(items)) is not None:
            callbacks.append(callback)
    for recording in _recordings:
        recording += _pending(connection)
    return callbacks


def _pending(connection: BaseDatabaseWrapper) -> list[Any]:
    """Return the items that the open transaction has collected and not yet written, in order."""
    return [hook[1].item for hook in connection.run_on_commit if isinstance(hook[1], _Collected)]
