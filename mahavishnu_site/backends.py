"""The settings of Django's database and of the channel layer, from `DATABASE_URL` and `REDIS_URL`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import dj_database_url
from redis.asyncio.connection import parse_url

from mahavishnu_site.env import UnexpectedValueError

SQLITE = "mahavishnu_site.sqlite"
_SQLITE_OF_DJANGO = "django.db.backends.sqlite3"
POSTGRES = "django.db.backends.postgresql"

# How long a writer waits for the write lock.
SQLITE_TIMEOUT_SECONDS = 20

# The server copies the write-ahead log into the file (`realtime.eventlog.wal_checkpoint`). If no server runs, or if it
# falls behind, a commit copies the log at 16 MiB. With SQLite's default of 4 MiB, commits would copy it first.
SQLITE_MAX_LOG_PAGES = 4000

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

REDIS_CONNECT_TIMEOUT_SECONDS = 2
REDIS_SOCKET_TIMEOUT_SECONDS = 5
# An idle subscriber sends a PING this often, because a host that fails closes no connection.
REDIS_HEALTH_CHECK_SECONDS = 10
# The layer uses two connections of a pool: one publishes, one subscribes. redis-py allows 100 by default; this lower
# limit makes a leak visible.
REDIS_MAX_CONNECTIONS = 32

DATABASE_URL_EXPECTED = "sqlite:///path/to/file or postgres://user:password@host:port/name"
REDIS_URL_EXPECTED = "redis://host:port/number, rediss://host:port/number or unix:///path/to/socket"


def sqlite_database(path: Path, *, test_path: Path) -> dict[str, Any]:
    """Return Django's settings for a SQLite file.

    Write transactions start as `IMMEDIATE`. A transaction that starts as a reader and writes later fails without
    waiting if another one has written in between. With WAL, readers continue during a write, and
    `synchronous=NORMAL` cannot corrupt the file (https://www.sqlite.org/wal.html).
    """
    return {
        "ENGINE": SQLITE,
        "NAME": str(path),
        "OPTIONS": {
            "transaction_mode": "IMMEDIATE",
            "timeout": SQLITE_TIMEOUT_SECONDS,
            "init_command": (
                f"PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA wal_autocheckpoint={SQLITE_MAX_LOG_PAGES};"
            ),
        },
        # Not in memory: locks on tables in shared memory fail at once instead of waiting.
        "TEST": {"NAME": str(test_path)},
    }


def parse_database_url(url: str, *, relative_to: Path, test_path: Path) -> dict[str, Any]:
    """Return Django's settings for a database; a relative SQLite path starts at `relative_to`.

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
        return database
    if database["ENGINE"] == _SQLITE_OF_DJANGO and database["NAME"] not in ("", ":memory:"):
        return sqlite_database(relative_to / database["NAME"], test_path=test_path)
    raise UnexpectedValueError(DATABASE_URL_EXPECTED)


def parse_redis_url(url: str) -> str:
    """Return the URL of one Redis server unchanged, if it is valid.

    Raises:
        UnexpectedValueError: if redis-py or Celery cannot use the URL.
    """
    try:
        parts = parse_url(url)
    except ValueError:
        raise UnexpectedValueError(REDIS_URL_EXPECTED) from None
    # redis-py ignores a path that is not a number. Celery, which gets the same URL, fails.
    is_bad_database = "host" in parts and re.fullmatch(r"/?[0-9]*/?", urlsplit(url).path) is None
    if is_bad_database or (not parts.get("host") and not parts.get("path")):
        raise UnexpectedValueError(REDIS_URL_EXPECTED)
    return url


def channel_layer(redis_urls: tuple[str, ...]) -> dict[str, Any]:
    """Return the channel layer's settings; groups are distributed over the servers of several URLs."""
    return {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {
            "hosts": [
                {
                    "address": url,
                    "socket_connect_timeout": REDIS_CONNECT_TIMEOUT_SECONDS,
                    "socket_timeout": REDIS_SOCKET_TIMEOUT_SECONDS,
                    "health_check_interval": REDIS_HEALTH_CHECK_SECONDS,
                    "max_connections": REDIS_MAX_CONNECTIONS,
                }
                for url in redis_urls
            ],
            "prefix": "mahavishnu",
        },
    }
