"""The epoch of the event log: when it is kept, and when it is replaced.

A position has a meaning in one epoch only. With Postgres, a new epoch is an operator's decision. With SQLite, the log
also gets one by itself if a power cut may have lost its last events: see `realtime.eventlog.epoch_file`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from django.db import DatabaseError, OperationalError, connection, transaction

from realtime.eventlog import epoch_file
from realtime.eventlog.position import Position, current_position
from realtime.models import Log

logger = logging.getLogger(__name__)

_SYNCHRONOUS_OFF: Final = 0
_SYNCHRONOUS_FULL: Final = 2

_STOP_LOCK_WAIT_MS: Final = 1000
"""How long a process that ends waits for SQLite's write lock. It must end within `drain_timeout_seconds`."""

# By `NAME` of the database: the file that SQLite opened; None for a database in memory.
_sqlite_paths: dict[str, Path | None] = {}


def renew_epoch() -> str:
    """Give the log a new epoch and return it. Clients can no longer resume from their old positions."""
    with transaction.atomic():
        return _renew_epoch(current_position().seq)


def ensure_epoch() -> None:
    """Give the log a new epoch if a power cut may have lost its last events. Call it before clients learn the epoch.

    Several processes may call this at once: one of them renews the epoch. See `realtime.eventlog.epoch_file`.

    Raises:
        django.db.Error: if the database is unavailable, or the file beside it cannot be written.
    """
    if is_continued(current_position().epoch):
        return
    with transaction.atomic():
        _take_write_lock()
        continue_epoch(newest_seq=current_position().seq)


def is_continued(epoch: str) -> bool:
    """Return whether events may be appended to this epoch. With Postgres they always may: it syncs each commit.

    Raises:
        django.db.OperationalError: if the file beside the database cannot be read.
    """
    path = _sqlite_path()
    try:
        return path is None or epoch_file.is_current(path, epoch)
    except OSError as error:
        raise OperationalError(f"Cannot read the file beside {path}: {error}") from error


def continue_epoch(*, newest_seq: int) -> Position:
    """Continue the epoch in this boot of the machine, or replace it. The transaction holds the write lock.

    Args:
        newest_seq: Position of the newest event that an earlier transaction committed.

    Raises:
        django.db.OperationalError: if the file beside the database cannot be written.
    """
    path, epoch = _sqlite_path(), current_position().epoch
    if path is not None and not is_continued(epoch):
        # A log that looks empty may have lost its first events, unless no process has noted this epoch yet.
        is_new = newest_seq == 0 and not epoch_file.is_about(path, epoch)
        if is_new or epoch_file.is_clean(path, epoch):
            _mark_current(path, epoch)
        else:
            _renew_epoch(newest_seq)
            logger.warning(
                "The event log has no record of a clean stop; gave it a new epoch, because its last events may be lost"
            )
    return current_position()


def record_clean_stop() -> None:
    """Sync the log and record that nothing of it can be lost, so that the epoch outlives a restart of the machine.

    Any long-lived process may call this before it ends. If another process appends later, that append records the boot
    again.
    """
    path = _sqlite_path()
    if path is None:
        return
    try:
        with _short_write_lock():
            # `current_position()` would create a missing row, in another transaction.
            epoch = Log.objects.filter(pk=1).values_list("epoch", flat=True).first()
            if epoch is not None and epoch_file.is_current(path, epoch) and _pragma("synchronous") != _SYNCHRONOUS_OFF:
                epoch_file.mark_clean(path, epoch)
    except (DatabaseError, OSError) as error:
        logger.warning("Cannot sync the event log (%r); after a restart of the machine it gets a new epoch", error)


def warn_if_commits_can_be_lost() -> None:
    """Log a warning if the database may lose committed events in a crash without a new epoch of the log."""
    reason = _reason_for_lost_commits()
    if reason:
        logger.warning("%s; after a crash, clients may miss events without notice: see docs/operations.md", reason)


def _reason_for_lost_commits() -> str:
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            return "synchronous_commit is off in Postgres" if cursor.fetchone()[0] == "off" else ""
    if _sqlite_path() is None:
        return ""
    if epoch_file.boot_id() is None and _pragma("synchronous") < _SYNCHRONOUS_FULL:
        return f"This system has no {epoch_file.BOOT_ID_PATH}, and synchronous is not FULL in SQLite"
    return ""


def _renew_epoch(newest_seq: int) -> str:
    Log.objects.filter(pk=1).delete()
    epoch = Log.objects.create(pk=1, trimmed_seq=newest_seq).epoch
    # Before the commit: if the commit fails, file and database differ, and the next append renews the epoch again.
    if (path := _sqlite_path()) is not None:
        _mark_current(path, epoch)
    return epoch


def _mark_current(path: Path, epoch: str) -> None:
    try:
        epoch_file.mark_current(path, epoch)
    except OSError as error:
        raise OperationalError(f"Cannot write {epoch_file.epoch_file_path(path)}: {error}") from error


@contextmanager
def _short_write_lock() -> Iterator[None]:
    """Hold SQLite's write lock. Not `atomic()`, which waits for it for longer than a process may take to end.

    The connection keeps the short timeout: its process ends.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA busy_timeout = {_STOP_LOCK_WAIT_MS}")
        cursor.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            cursor.execute("COMMIT")


def _take_write_lock() -> None:
    """Take SQLite's write lock, in a transaction that may have started as a reader. It updates no row."""
    Log.objects.filter(pk=0).update(trimmed_seq=0)


def _sqlite_path() -> Path | None:
    """Return the database file of SQLite; None for Postgres, and for a database in memory."""
    if connection.vendor != "sqlite":
        return None
    name = str(connection.settings_dict["NAME"])
    if name not in _sqlite_paths:
        with connection.cursor() as cursor:
            # As bytes: a path that is not UTF-8 cannot be read as text.
            cursor.execute("SELECT CAST(file AS BLOB) FROM pragma_database_list WHERE name = 'main'")
            (path,) = cursor.fetchone()
        _sqlite_paths[name] = Path(os.fsdecode(path)) if path else None
    return _sqlite_paths[name]


def _pragma(name: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA {name}")
        return int(cursor.fetchone()[0])
