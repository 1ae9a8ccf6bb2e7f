"""The file beside an SQLite database that says in which boot of the machine the epoch of the event log was continued.

With `synchronous=NORMAL`, SQLite does not sync a commit to the disk. If the power fails, the last commits are lost, and
the next events get numbers that clients have seen before. The database cannot show this: it looks as it did before
those commits. So this file names the epoch and the boot, and is synced before the first event of a boot is committed.
An epoch that the file connects with an earlier boot may have lost events, and is replaced.

If a process is killed, the kernel still has its commits, and the boot stays the same: the epoch is kept. It is also
kept if the database was synced after the last commit (`mark_clean`).

A process that writes the file, or decides by it, holds the write lock of the database. Django is not imported here: the
settings need `boot_id`.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path
from typing import Final

BOOT_ID_PATH: Final = Path("/proc/sys/kernel/random/boot_id")
"""A random UUID of each boot (random(4)). In a container it is that of the host's kernel."""

_SUFFIX: Final = "-epoch"
_CLEAN: Final = "clean"
"""In place of a boot: every event is on the disk."""

_MAX_BYTES: Final = 256

_MAX_CACHED_PATHS: Final = 8
"""Databases whose path of the file is computed once. A process has one."""


@cache
def boot_id() -> str | None:
    """Return the id of the current boot; None if this system has none. SQLite then needs `synchronous=FULL`."""
    try:
        return BOOT_ID_PATH.read_text(encoding="ascii").strip() or None
    except (OSError, UnicodeDecodeError):
        return None


@lru_cache(maxsize=_MAX_CACHED_PATHS)
def epoch_file_path(database: Path) -> Path:
    """Return the path of the file that belongs to an SQLite database. Callers keep the `Path`, which keeps its hash."""
    return database.with_name(database.name + _SUFFIX)


def is_current(database: Path, epoch: str) -> bool:
    """Return whether the epoch is continued in this boot. Every append asks this: it takes about 10 µs."""
    return _read(database) == _line(epoch, boot_id() or _CLEAN)


def is_clean(database: Path, epoch: str) -> bool:
    """Return whether every event of the epoch is on the disk."""
    return _read(database) == _line(epoch, _CLEAN)


def is_about(database: Path, epoch: str) -> bool:
    """Return whether a process has noted this epoch, in any boot. Then events may have been committed to it."""
    return _read(database).startswith(f"{epoch} ".encode())


def mark_current(database: Path, epoch: str) -> None:
    """Record, before events are committed, that the epoch is continued in this boot.

    Raises:
        OSError: if the file cannot be written or synced. Then no event may be committed.
    """
    _write(database, _line(epoch, boot_id() or _CLEAN))


def mark_clean(database: Path, epoch: str) -> None:
    """Sync the write-ahead log, and record that every event of the epoch is on the disk.

    The pages that are no longer in the write-ahead log were synced by the checkpoint that copied them.

    Raises:
        OSError: if a file cannot be written or synced.
    """
    # Only the write-ahead log is opened: closing a second descriptor of the database would release SQLite's locks on
    # it (https://www.sqlite.org/howtocorrupt.html#_posix_advisory_locks_canceled_by_a_separate_thread_doing_close_).
    with suppress(FileNotFoundError):  # Without a write-ahead log, each commit syncs the database.
        _sync(database.with_name(database.name + "-wal"))
    _write(database, _line(epoch, _CLEAN))


def _line(epoch: str, continued: str) -> bytes:
    return f"{epoch} {continued}\n".encode()


def _read(database: Path) -> bytes:
    """Return the content of the file; nothing if there is none."""
    try:
        descriptor = os.open(epoch_file_path(database), os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        return os.read(descriptor, _MAX_BYTES)
    finally:
        os.close(descriptor)


def _write(database: Path, line: bytes) -> None:
    """Replace the file atomically, and sync it and its name."""
    path = epoch_file_path(database)
    new = path.with_name(path.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        _copy_access(database, descriptor)
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(new, path)
    _sync(path.parent)


def _copy_access(database: Path, descriptor: int) -> None:
    """Give the file the owner and the permissions of the database, as SQLite does with its own files."""
    status = os.stat(database)
    if os.geteuid() == 0:
        os.fchown(descriptor, status.st_uid, status.st_gid)
    os.fchmod(descriptor, stat.S_IMODE(status.st_mode))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
