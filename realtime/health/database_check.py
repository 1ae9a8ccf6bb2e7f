"""Whether the database can be read and written, on the health check's own thread and connection.

Only a commit proves that changes can be stored, so a row made for it is written every few seconds. It may fit into
space that the database has reserved, where an event would not fit. So the probe needs new space too.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from django.db import Error, connection, transaction

from orchestration.bounds import MIB
from realtime.database import in_health_thread
from realtime.eventlog.position import Position, current_position
from realtime.health.scheduler_check import SchedulerState, read_scheduler_state
from realtime.models import WriteProbe

logger = logging.getLogger(__name__)

LOCK_WAIT_SECONDS: Final = 1.0
"""How long one probe waits for a lock. Shorter than the timeout of the check, which reads on the same connection."""

LOCK_TIMEOUT_SECONDS: Final = 30.0
"""A lock that was never free for this long counts as a problem. Writers give up after 20 s on SQLite."""

MIN_FREE_BYTES: Final = MIB
"""A disk of a SQLite file with less free space counts as full: a commit of large events needs that much."""

_SQLITE_PRIMARY_CODE: Final = 0xFF
_SQLITE_LOCKED: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_SQLITE_REASONS: Final = {
    sqlite3.SQLITE_FULL: "disk full",
    sqlite3.SQLITE_READONLY: "read-only",
    sqlite3.SQLITE_IOERR: "I/O error",
    sqlite3.SQLITE_CANTOPEN: "cannot open the file",
}
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_POSTGRES_LOCKED: Final = "55P03"
_POSTGRES_TEMP_FILE_LIMIT: Final = "53400"
_POSTGRES_REASONS: Final = {"25006": "read-only", "42501": "permission denied", "53100": "disk full"}

# One statement, so that on SQLite it is one transaction without `BEGIN`, which would wait for the lock for longer.
_UPSERT: Final = (
    f"INSERT INTO {WriteProbe._meta.db_table} (id, written_at) VALUES (1, CURRENT_TIMESTAMP) "
    "ON CONFLICT (id) DO UPDATE SET written_at = excluded.written_at"
)

# A result larger than the smallest `work_mem` goes into a temporary file of 200 KB: 3 ms, and nothing stays behind.
# With a full disk the upsert alone succeeds, because its row has room in its page.
_USE_DISK: Final = ("SET LOCAL work_mem = '64kB'", "SELECT count(*) FROM generate_series(1, 5000)")


class _DiskFull(Exception):
    """Raised if the disk of a SQLite file has no room for a commit."""


class DatabaseCheck:
    """Reads the log's position and the scheduler's heartbeat, and writes the probe row if it is due.

    Args:
        write_interval_seconds: A write that succeeded is not repeated within this time. One that failed is repeated
            by the next check.

    Attributes:
        write_problem: Why the database cannot be written, in a sentence; None if it can, or if that is unknown.
        scheduler: What the heartbeat of the scheduler says.
    """

    def __init__(self, *, write_interval_seconds: float) -> None:
        self.write_problem: str | None = None
        self.scheduler = SchedulerState("off")
        self._write_interval_seconds = write_interval_seconds
        self._write_due_at = 0.0
        self._locked_since: float | None = None
        self._call: asyncio.Task[Position] | None = None

    @property
    def waits_for_lock(self) -> bool:
        """Whether another transaction held the lock during the last write."""
        return self._locked_since is not None

    async def run(self) -> Position:
        """Return the position of the log; it updates the attributes too.

        A caller that is cancelled leaves the call to the next one: a database that hangs costs one thread.

        Raises:
            django.db.Error: if the database cannot be read.
        """
        if self._call is None:
            self._call = asyncio.create_task(in_health_thread(self.check))
            self._call.add_done_callback(self._forget)
        return await asyncio.shield(self._call)

    def _forget(self, call: asyncio.Task[Position]) -> None:
        self._call = None
        if not call.cancelled():
            call.exception()  # All callers may have left; asyncio would log it as never retrieved.

    def check(self) -> Position:
        """Do the same in this thread."""
        position = current_position()
        self.scheduler = read_scheduler_state()
        if time.monotonic() >= self._write_due_at:
            try:
                _write()
            except (Error, _DiskFull) as error:
                self._record_failure(error)
            else:
                self._record_success()
        return position

    def _record_success(self) -> None:
        self._locked_since = None
        self._write_due_at = time.monotonic() + self._write_interval_seconds
        if self.write_problem is not None:
            self.write_problem = None
            logger.warning("The database can be written again")

    def _record_failure(self, error: Error | _DiskFull) -> None:
        if _is_locked(error):
            now = time.monotonic()
            self._locked_since = self._locked_since or now
            if now - self._locked_since < LOCK_TIMEOUT_SECONDS:
                return
            reason = f"locked for more than {LOCK_TIMEOUT_SECONDS:.0f} s"
        else:
            self._locked_since = None
            reason = _reason(error)
        if self.write_problem is None:
            logger.warning("The database cannot be written (%s: %r); every change fails until it can", reason, error)
        self.write_problem = f"database: cannot be written ({reason})"


def _write() -> None:
    if connection.vendor == "postgresql":
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT_SECONDS:g}s'")
            cursor.execute(_UPSERT)
        _use_disk()
        return
    with connection.cursor() as cursor:
        cursor.execute(f"PRAGMA busy_timeout = {int(LOCK_WAIT_SECONDS * 1000)}")
        cursor.execute(_UPSERT)
    with suppress(OSError):  # Not the path of a file.
        if shutil.disk_usage(Path(connection.settings_dict["NAME"]).parent).free < MIN_FREE_BYTES:
            raise _DiskFull(f"less than {MIN_FREE_BYTES} bytes free")


def _use_disk() -> None:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            for statement in _USE_DISK:
                cursor.execute(statement)
    except Error as error:
        if _postgres_code(error) != _POSTGRES_TEMP_FILE_LIMIT:
            raise


def _is_locked(error: Exception) -> bool:
    return _sqlite_code(error) in _SQLITE_LOCKED or _postgres_code(error) == _POSTGRES_LOCKED


def _reason(error: Exception) -> str:
    if isinstance(error, _DiskFull):
        return "disk full"
    found = _SQLITE_REASONS.get(_sqlite_code(error)) or _POSTGRES_REASONS.get(_postgres_code(error))
    return found or type(error).__name__


def _sqlite_code(error: Exception) -> int:
    return int(getattr(error.__cause__, "sqlite_errorcode", 0)) & _SQLITE_PRIMARY_CODE


def _postgres_code(error: Exception) -> str:
    return getattr(error.__cause__, "sqlstate", None) or ""
