"""Pytest fixtures for the real parts."""

from __future__ import annotations

import fcntl
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.harness.other_rows import store_other_rows
from tests.harness.postgres import Postgres
from tests.harness.run import LONG_REDIS_TIMEOUTS, run_directory, run_postgres
from tests.harness.server import MahavishnuServer, copy_sqlite, migrate
from tests.harness.tokens import REQUIRES_AUTH
from tests.harness.valkey import Valkey


@pytest.fixture(scope="session")
def valkey(pytestconfig: pytest.Config) -> Iterator[Valkey]:
    """Start the Valkey of `settings.MAHAVISHNU_REDIS_URLS`, for tests that start no server."""
    valkey = Valkey(pytestconfig.stash[run_directory])
    valkey.start()
    yield valkey
    valkey.close()


@pytest.fixture
def start_valkey() -> Iterator[Callable[[], Valkey]]:
    """Return a function that starts a Valkey which the test may stop, kill or freeze."""
    started: list[Valkey] = []

    def start() -> Valkey:
        valkey = Valkey()
        started.append(valkey)
        valkey.start()
        return valkey

    yield start
    for valkey in started:
        valkey.close()


@pytest.fixture(scope="session")
def postgres(pytestconfig: pytest.Config) -> Iterator[Postgres]:
    if run_postgres in pytestconfig.stash:
        yield pytestconfig.stash[run_postgres]
        return
    postgres = Postgres()
    yield postgres
    postgres.close()


@pytest.fixture(scope="session")
def postgres_url(postgres: Postgres) -> Callable[[], str]:
    """Return a function that creates an empty database and returns its URL."""
    return postgres.create_database


class NewDatabase(Protocol):
    """The fixture `new_database`."""

    def __call__(self, database: str, *, var_dir: Path) -> str:
        """Create a database, "sqlite" or "postgres", and return its URL; a SQLite file is created in `var_dir`."""


@pytest.fixture(scope="session")
def new_database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> NewDatabase:
    """Return a function that creates a migrated database and returns its URL. Migrations run once per kind.

    With `-n`, the processes that run tests share the migrated SQLite file.
    """
    templates: dict[str, str] = {}

    def sqlite(var_dir: Path) -> str:
        base = tmp_path_factory.getbasetemp()
        directory = base.parent if hasattr(request.config, "workerinput") else base
        template = directory / "template.sqlite3"
        with (directory / "template.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not template.exists():
                migrating = tmp_path_factory.mktemp("template") / template.name
                migrate(var_dir=migrating.parent, database_url=f"sqlite:///{migrating}")
                migrating.rename(template)
        return copy_sqlite(template, var_dir / "mahavishnu.sqlite3")

    def postgres() -> str:
        cluster: Postgres = request.getfixturevalue("postgres")
        if "postgres" not in templates:
            url = cluster.create_database()
            migrate(var_dir=tmp_path_factory.mktemp("template"), database_url=url)
            templates["postgres"] = url.split("?", 1)[0].rsplit("/", 1)[1]
        return cluster.create_database(template=templates["postgres"])

    def new(database: str, *, var_dir: Path) -> str:
        return postgres() if database == "postgres" else sqlite(var_dir)

    return new


class StartServer(Protocol):
    """The fixtures `start_server`, `start_module_server` and `start_shared_server`."""

    def __call__(
        self,
        *,
        database: str = "sqlite",
        beside: MahavishnuServer | None = None,
        database_url: str | None = None,
        redis_url: str | None = None,
        environment: dict[str, str] | None = None,
        processes: int = 1,
        started: bool = True,
        **limits: int | float,
    ) -> MahavishnuServer:
        """Start a server with a new migrated database and a new Valkey.

        Args:
            database: "sqlite" or "postgres".
            beside: Share this server's database and Valkey instead.
            database_url: Use this migrated database.
            redis_url: Use this Redis and start no Valkey.
            environment: Additional variables.
            processes: Number of processes that share the server's port.
            started: Whether to start the server; if not, the test calls `start()`.
            limits: Fields of `realtime.limits.Limits`, such as `max_connections=3`.
        """


def server_starter(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    servers: list[MahavishnuServer] = []
    valkeys: list[Valkey] = []

    def start_valkey() -> Valkey:
        # One per database: a server must not receive what a server with another log publishes.
        valkey = Valkey()
        valkeys.append(valkey)
        valkey.start()
        return valkey

    def start(
        *,
        database: str = "sqlite",
        beside: MahavishnuServer | None = None,
        database_url: str | None = None,
        redis_url: str | None = None,
        environment: dict[str, str] | None = None,
        processes: int = 1,
        started: bool = True,
        **limits: int | float,
    ) -> MahavishnuServer:
        var_dir = tmp_path_factory.mktemp("server")
        valkey = start_valkey() if beside is None and redis_url is None else None
        server = MahavishnuServer(
            var_dir=var_dir,
            database_url=database_url or (beside.database_url if beside else new_database(database, var_dir=var_dir)),
            redis_url=redis_url or (beside.redis_url if beside else valkey.url if valkey else ""),
            environment={
                **LONG_REDIS_TIMEOUTS,
                **{f"MAHAVISHNU_{name.upper()}": str(value) for name, value in limits.items()},
                **(environment or {}),
            },
            processes=processes,
            valkey=valkey,
        )
        servers.append(server)
        if started:
            server.start()
        return server

    yield start
    for server in servers:
        server.close()
    for valkey in valkeys:
        valkey.close()


@pytest.fixture(scope="session")
def start_shared_server(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Return a function that starts a server for the whole run. For fixtures, not for tests."""
    yield from server_starter(new_database, tmp_path_factory)


@pytest.fixture(scope="module")
def start_module_server(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Return a function that starts a server for the tests of one module. For fixtures, not for tests."""
    yield from server_starter(new_database, tmp_path_factory)


@pytest.fixture
def start_server(new_database: NewDatabase, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartServer]:
    """Return a function that starts a server for one test: `start_server(database="postgres", max_connections=3)`."""
    yield from server_starter(new_database, tmp_path_factory)


@pytest.fixture(scope="session")
def server(start_shared_server: StartServer) -> MahavishnuServer:
    """Start one server for all tests, with default limits, on SQLite. Use ids that no other test uses: see `unique`."""
    return store_other_rows(start_shared_server())


@pytest.fixture(scope="session")
def closed_server(start_shared_server: StartServer) -> MahavishnuServer:
    """Start one server for all tests that requires tokens. An address may fail as often as it wants."""
    started = start_shared_server(
        environment=REQUIRES_AUTH,
        auth_timeout_seconds=1,
        max_unauthenticated_per_address=3,
        max_auth_failures_per_minute=0,
    )
    return store_other_rows(started)


@pytest.fixture(scope="session")
def postgres_server(start_shared_server: StartServer) -> MahavishnuServer:
    """Start one server for all tests, with default limits, on Postgres."""
    return store_other_rows(start_shared_server(database="postgres"))


@pytest.fixture(params=["sqlite", "postgres"])
def server_on_both(request: pytest.FixtureRequest) -> MahavishnuServer:
    """Run the test with the shared server on SQLite, and again with the one on Postgres."""
    name = "server" if request.param == "sqlite" else "postgres_server"
    server: MahavishnuServer = request.getfixturevalue(name)
    return server


@pytest.fixture
def unique() -> Callable[[str], str]:
    """Return a function that makes ids which no other test uses: `unique("wf")` is "wf_17"."""
    return lambda prefix: f"{prefix}_{next(numbers)}"


numbers = itertools.count(1)
