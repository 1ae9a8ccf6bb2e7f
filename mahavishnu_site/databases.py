"""The settings of Django's database (`DATABASES`), from `DATABASE_URL`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import dj_database_url

from mahavishnu_site.env import UnexpectedValueError
from realtime.eventlog.epoch_file import boot_id

SQLITE = "mahavishnu_site.sqlite"
_SQLITE_OF_DJANGO = "django.db.backends.sqlite3"
POSTGRES = "django.db.backends.postgresql"

# How long a writer waits for the write lock.
SQLITE_TIMEOUT_SECONDS = 20

# The server copies the write-ahead log into the file (`realtime.eventlog.wal_checkpoint`). If no server runs, or if it
# falls behind, a commit copies the log at 16 MiB. With SQLite's default of 4 MiB, commits would copy it first.
SQLITE_MAX_LOG_PAGES = 4000

SQLITE_SYNC_AT_CHECKPOINTS: Final = "PRAGMA synchronous=NORMAL"
SQLITE_SYNC_EACH_COMMIT: Final = "PRAGMA synchronous=FULL; PRAGMA fullfsync=1"

# If the host of Postgres fails, no connection is closed: TCP times out after 15 minutes, and waiting for a lost answer
# takes even longer. Names and units are libpq's (https://www.postgresql.org/docs/current/libpq-connect.html). The query
# of `DATABASE_URL` overrides them. On a Unix socket only the first has an effect.
POSTGRES_OPTIONS: Final[Mapping[str, int]] = {
    "connect_timeout": 5,  # seconds
    "keepalives": 1,
    "keepalives_idle": 10,  # seconds until the first keepalive probe
    "keepalives_interval": 5,  # seconds between probes
    "keepalives_count": 3,  # probes without an answer
    "tcp_user_timeout": 20_000,  # milliseconds until sent data must be acknowledged
}

DATABASE_URL_EXPECTED = "sqlite:///path/to/file or postgres://user:password@host:port/name"


def sqlite_database(path: Path, *, test_path: Path) -> dict[str, Any]:
    """Return Django's settings for a SQLite file.

    Write transactions start as `IMMEDIATE`. A transaction that starts as a reader and writes later fails without
    waiting if another one has written in between. With WAL, readers continue during a write, and
    `synchronous=NORMAL` cannot corrupt the file (https://www.sqlite.org/wal.html). A power cut may lose the last
    commits; `realtime.eventlog.epoch_file` then gives the log a new epoch. Where the system has no id of the boot, each
    commit is synced instead (`fullfsync` has an effect on macOS only).
    """
    return {
        "ENGINE": SQLITE,
        "NAME": str(path),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": SQLITE_TIMEOUT_SECONDS,
            "init_command": (
                f"PRAGMA journal_mode=WAL; {SQLITE_SYNC_AT_CHECKPOINTS if boot_id() else SQLITE_SYNC_EACH_COMMIT}; "
                f"PRAGMA wal_autocheckpoint={SQLITE_MAX_LOG_PAGES};"
            ),
        },
        # Not in memory: locks on tables in shared memory fail at once instead of waiting.
        "TEST": {"NAME": str(test_path)},
    }


def parse_database_url(url: str, *, relative_to: Path, test_path: Path, password: str = "") -> dict[str, Any]:
    """Return Django's settings for a database; a relative SQLite path starts at `relative_to`.

    Args:
        url: The value of `DATABASE_URL`.
        relative_to: A folder.
        test_path: The SQLite file of tests.
        password: What libpq would take from `PGPASSWORD` if the URL contains no password. A stage connects after
            this variable was removed from its process.

    Raises:
        UnexpectedValueError: if the URL is invalid, or is of another kind of database.
    """
    try:
        # `conn_max_age` is 0, because under ASGI every HTTP request runs in a new thread. A connection that outlived
        # its request would stay open until the garbage collector runs. Long-lived threads keep their connections: they
        # do not run Django's check for old connections.
        database: dict[str, Any] = dict(dj_database_url.parse(url, conn_max_age=0, conn_health_checks=True))
    except ValueError:
        raise UnexpectedValueError(DATABASE_URL_EXPECTED) from None
    if database["ENGINE"] == POSTGRES and database["NAME"]:
        database["OPTIONS"] = {**POSTGRES_OPTIONS, **database.setdefault("OPTIONS", {})}
        if "password" not in database["OPTIONS"]:
            database["PASSWORD"] = database["PASSWORD"] or password
        return database
    if database["ENGINE"] == _SQLITE_OF_DJANGO and database["NAME"] not in ("", ":memory:"):
        return sqlite_database(relative_to / database["NAME"], test_path=test_path)
    raise UnexpectedValueError(DATABASE_URL_EXPECTED)
