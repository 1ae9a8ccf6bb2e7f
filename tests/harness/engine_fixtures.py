"""An engine that looks often: what takes seconds by default takes fractions of one here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.engine import Engine, engine_of
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

LOOKS_OFTEN = {
    "MAHAVISHNU_HEARTBEAT_SECONDS": "0.2",
    "MAHAVISHNU_SUPERVISOR_INTERVAL_SECONDS": "0.05",
    "MAHAVISHNU_SCHEDULER_INTERVAL_SECONDS": "0.05",
    "MAHAVISHNU_CANCEL_GRACE_SECONDS": "0.3",
    "MAHAVISHNU_SHUTDOWN_GRACE_SECONDS": "0.5",
    "MAHAVISHNU_REDISPATCH_SECONDS": "0.5",
    # A machine that is busy keeps a process waiting for seconds: nobody is given up for that.
    "MAHAVISHNU_LEASE_SECONDS": "60",
    "MAHAVISHNU_WORKER_TIMEOUT_SECONDS": "60",
    "MAHAVISHNU_PROGRESS_INTERVAL_SECONDS": "30",
}
LEASE_SECONDS = 6.0
GIVES_UP_SOON = {
    **LOOKS_OFTEN,
    "MAHAVISHNU_LEASE_SECONDS": str(LEASE_SECONDS),
    "MAHAVISHNU_WORKER_TIMEOUT_SECONDS": "5",
}
"""For tests of workers that fall silent: they wait as long as that takes."""

JOBS = {"MAHAVISHNU_APPS": "tests.jobs"}


@pytest.fixture(scope="session")
def engine_server(start_shared_server: StartServer) -> Iterator[MahavishnuServer]:
    """One server for all tests of the engine, with two schedulers: of two that find the same, one acts."""
    server = start_shared_server(environment={**JOBS, **LOOKS_OFTEN})
    engine = Engine(server)
    engine.scheduler()
    engine.scheduler()
    yield server
    engine.close()


@pytest.fixture
def engine(engine_server: MahavishnuServer) -> Iterator[Engine]:
    """Workers of this test alone. Use a pool that no other test uses."""
    yield from engine_of(engine_server)


class Files:
    """What a stage and its test tell each other."""

    def __init__(self, directory: Path) -> None:
        self._gate = directory / "gate"
        self._journal = directory / "journal"

    @property
    def params(self) -> dict[str, Any]:
        return {"gate": str(self._gate), "journal": str(self._journal)}

    def open_gate(self) -> None:
        self._gate.touch()

    def journal(self) -> list[str]:
        return self._journal.read_text().splitlines() if self._journal.exists() else []


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def pool(unique: Callable[[str], str]) -> str:
    return unique("engine")


@pytest.fixture(scope="module")
def failures(engine_server: MahavishnuServer) -> Iterator[Engine]:
    """One worker for the pool `failures`, for tests that differ in what a stage does."""
    engine = Engine(engine_server)
    engine.worker(pool_id="failures")
    yield engine
    engine.close()
    engine.forget_workers("failures")
