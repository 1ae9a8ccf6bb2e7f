"""`GET /health` while everything can be read and something cannot be written: full disk, read-only, full Valkey."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import psycopg
import pytest
import redis
from django.db import connection

from realtime.health import database_check
from realtime.health.database_check import DatabaseCheck
from realtime.health.redis_check import queue_url
from tests.harness.fixtures import StartServer
from tests.harness.health import wait_for_health
from tests.harness.server import MahavishnuServer

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(start_module_server: StartServer) -> MahavishnuServer:
    """Start a server that tries a write in every check."""
    return start_module_server(write_probe_interval_seconds=0.1)


def test_full_disk_is_a_problem_until_there_is_room(server: MahavishnuServer) -> None:
    before = wait_for_health(server, 200)
    with no_room(server):
        report = wait_for_health(server, 503)
    assert report == {
        **before,
        "status": "unhealthy",
        "problems": ["database: cannot be written (I/O error)"],
    }
    assert wait_for_health(server, 200) == before
    # The line about the failure could not be written either.
    assert server.log_text().count("The database can be written again") == 1


@contextmanager
def no_room(server: MahavishnuServer) -> Iterator[None]:
    """Let no file of the server grow. SQLite calls the error an I/O error: it is not that of a full disk."""
    process = psutil.Process(server.pid)
    unlimited = process.rlimit(psutil.RLIMIT_FSIZE)
    process.rlimit(psutil.RLIMIT_FSIZE, (0, unlimited[1]))
    try:
        yield
    finally:
        process.rlimit(psutil.RLIMIT_FSIZE, unlimited)


def test_full_valkey_is_a_problem_until_there_is_room(server: MahavishnuServer) -> None:
    before = wait_for_health(server, 200)
    with redis.Redis.from_url(server.redis_url) as valkey:
        valkey.config_set("maxmemory-policy", "noeviction")
        valkey.config_set("maxmemory", MIB)
        fill(valkey)
        report = wait_for_health(server, 503)
        valkey.flushall()
        valkey.config_set("maxmemory", 0)
    assert report == {
        **before,
        "status": "unhealthy",
        "problems": ["queue: Redis refuses writes (maxmemory reached)"],
    }
    assert wait_for_health(server, 200) == before


def fill(valkey: redis.Redis) -> None:
    number = 0
    while True:
        try:
            valkey.set(f"filler {number}", b"x" * 1024)
        except redis.exceptions.OutOfMemoryError:
            return
        number += 1


def test_replica_is_a_problem_until_it_is_primary(server: MahavishnuServer) -> None:
    wait_for_health(server, 200)
    with redis.Redis.from_url(server.redis_url) as valkey:
        valkey.execute_command("REPLICAOF", "127.0.0.1", "1")
        replica = wait_for_health(server, 503)["problems"]
        valkey.execute_command("REPLICAOF", "NO", "ONE")
        wait_for_health(server, 200)
    assert replica == ["queue: Redis refuses writes (read-only replica)"]


def test_read_only_postgres_is_a_problem_until_it_is_writable(start_server: StartServer) -> None:
    server = start_server(database="postgres", write_probe_interval_seconds=0.1)
    before = wait_for_health(server, 200)
    name = psycopg.conninfo.conninfo_to_dict(server.database_url)["dbname"]
    with psycopg.connect(server.database_url, dbname="postgres", autocommit=True) as admin:
        set_read_only(admin, str(name), "on")
        report = wait_for_health(server, 503)
        set_read_only(admin, str(name), "off")
    assert report["problems"] == ["database: cannot be written (read-only)"]
    assert report["database"] == "up"
    assert wait_for_health(server, 200)["problems"] == before["problems"] == []


def test_postgres_without_room_for_a_file_is_a_problem(start_server: StartServer) -> None:
    """An update has room in its page while a new event has not: here, no temporary file can be created."""
    server = start_server(database="postgres", write_probe_interval_seconds=0.1)
    wait_for_health(server, 200)
    with psycopg.connect(server.database_url, autocommit=True) as admin:
        run_on_server(admin, "rm -rf base/pgsql_tmp && touch base/pgsql_tmp")
        try:
            report = wait_for_health(server, 503)
        finally:
            run_on_server(admin, "rm base/pgsql_tmp")
    assert [problem.partition(" (")[0] for problem in report["problems"]] == ["database: cannot be written"]
    wait_for_health(server, 200)


def run_on_server(admin: psycopg.Connection, command: str) -> None:
    """Run a command as the user and in the folder of the database server."""
    admin.execute(psycopg.sql.SQL("COPY (SELECT 1) TO PROGRAM {}").format(f"cat && {command}"))


def set_read_only(admin: psycopg.Connection, name: str, value: str) -> None:
    """Change the default of the database's new connections, and close the old ones."""
    admin.execute(f'ALTER DATABASE "{name}" SET default_transaction_read_only = {value}')
    admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])


@pytest.mark.both_databases
@pytest.mark.django_db(transaction=True)
def test_held_lock_is_a_problem_only_after_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database_check, "LOCK_WAIT_SECONDS", 0.01)
    check = DatabaseCheck(write_interval_seconds=0)
    check.check()
    assert (check.waits_for_lock, check.write_problem) == (False, None)
    with another_writer():
        check.check()
        assert (check.waits_for_lock, check.write_problem) == (True, None)
        monkeypatch.setattr(database_check, "LOCK_TIMEOUT_SECONDS", 0.0)
        check.check()
        assert (check.waits_for_lock, check.write_problem) == (
            True,
            "database: cannot be written (locked for more than 0 s)",
        )
    check.check()
    assert (check.waits_for_lock, check.write_problem) == (False, None)


@contextmanager
def another_writer() -> Iterator[None]:
    if connection.vendor == "postgresql":
        other = connection.copy()
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("LOCK TABLE realtime_writeprobe IN SHARE MODE")
        yield
        other.rollback()
        other.close()
        return
    writer = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    yield
    writer.execute("ROLLBACK")
    writer.close()


@pytest.mark.django_db(transaction=True)
def test_read_only_connection_is_named() -> None:
    check = DatabaseCheck(write_interval_seconds=0)
    check.check()
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA query_only = 1")
        check.check()
        assert check.write_problem == "database: cannot be written (read-only)"
        cursor.execute("PRAGMA query_only = 0")
    check.check()
    assert check.write_problem is None


@pytest.mark.django_db(transaction=True)
def test_disk_without_room_for_a_commit_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    check = DatabaseCheck(write_interval_seconds=0)
    check.check()
    assert check.write_problem is None
    monkeypatch.setattr(database_check, "MIN_FREE_BYTES", 1 << 62)
    check.check()
    assert check.write_problem == "database: cannot be written (disk full)"


@pytest.mark.parametrize(
    ("broker_url", "expected"),
    [
        ("redis://:secret@queue:6379/2", "redis://:secret@queue:6379/2"),
        ("rediss://queue/0", "rediss://queue/0"),
        ("redis+socket:///run/valkey.sock", "unix:///run/valkey.sock"),
        ("redis+socket:///run/valkey.sock?virtual_host=2", "unix:///run/valkey.sock?db=2"),
        ("amqp://guest@queue//", None),
        ("redis://one;redis://two", None),
        ("memory://", None),
        (None, None),
    ],
)
def test_queue_url_is_that_of_a_single_redis(broker_url: str | None, expected: str | None) -> None:
    assert queue_url(broker_url) == expected
