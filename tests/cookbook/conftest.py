"""The installations of the cookbook's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cookbook.installation import Installation
from tests.cookbook.recipes import write_packages
from tests.harness.engine_fixtures import FAST_POLLING, SHORT_LEASE
from tests.harness.fixtures import StartServer
from tests.harness.programs import CODE_FOLDER_VARIABLE


def installation_with(
    start_server: StartServer,
    tmp_path_factory: pytest.TempPathFactory,
    variables: dict[str, str],
    database: str = "sqlite",
) -> Iterator[Installation]:
    """Yield an installation with the code of all pages, and close it."""
    folder: Path = tmp_path_factory.mktemp("cookbook")
    packages = ",".join(write_packages(folder))
    environment = {**variables, "MAHAVISHNU_APPS": packages, CODE_FOLDER_VARIABLE: str(folder)}
    installation = Installation(start_server(environment=environment, database=database))
    yield installation
    installation.close()


@pytest.fixture(scope="session")
def session_installation(
    start_shared_server: StartServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """Start the installation of `installation`."""
    yield from installation_with(start_shared_server, tmp_path_factory, FAST_POLLING)


@pytest.fixture
def installation(session_installation: Installation) -> Iterator[Installation]:
    """Return an installation in which nothing runs."""
    yield session_installation
    session_installation.finish()


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def module_installation(
    request: pytest.FixtureRequest, start_module_server: StartServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Installation]:
    """Start the installation of `short_lease_installation`, on both databases."""
    yield from installation_with(start_module_server, tmp_path_factory, SHORT_LEASE, request.param)


@pytest.fixture
def short_lease_installation(module_installation: Installation) -> Iterator[Installation]:
    """Return an installation in which nothing runs, and the lease of a killed worker expires after 6 s."""
    yield module_installation
    module_installation.finish()
