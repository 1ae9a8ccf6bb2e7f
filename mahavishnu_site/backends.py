"""What `DATABASE_URL` and `REDIS_URL` mean to Django and to the channel layer."""

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

# A writer waits this long for the one before it.
SQLITE_TIMEOUT_SECONDS = 20

# The server takes the write-ahead log into the file (`realtime.eventlog.wal_checkpoint`). Where none runs, or it falls behind, a
# commit does so at 16 MiB; at SQLite's own 4 MiB it would be before the server.
SQLITE_MAX_LOG_PAGES = 4000

# A Postgres whose host vanished without a word closes nothing: TCP alone gives up after 15 minutes, and a lost answer
# is waited for even longer. Names and units are libpq's (https://www.postgresql.org/docs/current/libpq-connect.html);
# the query of `DATABASE_URL` says otherwise. On a Unix socket only the first has a meaning.
POSTGRES_OPTIONS: Final[Mapping[str, int]] = {
    "connect_timeout": 5,  # seconds
    "keepalives": 1,
    "keepalives_idle": 10,  # seconds until the first question whether the other end is there
    "keepalives_interval": 5,  # seconds between questions
    "keepalives_count": 3,  # questions without an answer
    "tcp_user_timeout": 20_000,  # milliseconds in which what was sent is acknowledged
}

REDIS_CONNECT_TIMEOUT_SECONDS = 2
REDIS_ANSWER_TIMEOUT_SECONDS = 5
# An idle subscriber asks whether the other end is still there: a peer that vanished without a word closes nothing.
REDIS_HEALTH_CHECK_SECONDS = 10
# The layer uses two connections of a pool, one to publish and one to listen; redis-py raises at 100 by default, and
# the number is written down here so that a leak shows as what it is.
REDIS_MAX_CONNECTIONS = 32

DATABASE_URL_EXPECTED = "sqlite:///path/to/file or postgres://user:password@host:port/name"
REDIS_URL_EXPECTED = "redis://host:port/number, rediss://host:port/number or unix:///path/to/socket"


def sqlite_database(path: Path, *, test_path: Path) -> dict[str, Any]:
    """Return Django's settings for a SQLite file.

    Write transactions start as such (`IMMEDIATE`): one that began as a reader and then writes is refused at once, not
    made to wait, when another wrote in between. WAL lets readers go on meanwhile, and with it `synchronous=NORMAL`
    cannot corrupt the file (https://www.sqlite.org/wal.html).
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
        # A file, not memory: tables in shared memory have locks that fail at once instead of waiting.
        "TEST": {"NAME": str(test_path)},
    }


def parse_database_url(url: str, *, relative_to: Path, test_path: Path) -> dict[str, Any]:
    """Return Django's settings for a database; a relative SQLite path starts at `relative_to`.

    Raises:
        UnexpectedValueError: the URL is not one, or names another kind of database.
    """
    try:
        # `conn_max_age` is 0: under ASGI every HTTP request has a thread of its own, and a connection that outlives
        # its request would wait for the garbage collector. The long-lived threads keep theirs by never asking
        # Django to close it.
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
    """Return the URL of one Redis server as it was given.

    Raises:
        UnexpectedValueError: redis-py cannot use it.
    """
    try:
        parts = parse_url(url)
    except ValueError:
        raise UnexpectedValueError(REDIS_URL_EXPECTED) from None
    # redis-py passes over a path that is no number; Celery, which is given the same URL, does not.
    names_no_database = "host" in parts and re.fullmatch(r"/?[0-9]*/?", urlsplit(url).path) is None
    if names_no_database or (not parts.get("host") and not parts.get("path")):
        raise UnexpectedValueError(REDIS_URL_EXPECTED)
    return url


def channel_layer(redis_urls: tuple[str, ...]) -> dict[str, Any]:
    """Return the channel layer's settings; more than one URL means that groups are spread over the servers."""
    return {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {
            "hosts": [
                {
                    "address": url,
                    "socket_connect_timeout": REDIS_CONNECT_TIMEOUT_SECONDS,
                    "socket_timeout": REDIS_ANSWER_TIMEOUT_SECONDS,
                    "health_check_interval": REDIS_HEALTH_CHECK_SECONDS,
                    "max_connections": REDIS_MAX_CONNECTIONS,
                }
                for url in redis_urls
            ],
            "prefix": "mahavishnu",
        },
    }
