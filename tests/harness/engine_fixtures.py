"""Fixtures for an engine with short intervals: what takes seconds by default takes fractions of a second here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.engine import CeleryWorker, Engine, engine_of
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

FAST_POLLING = {
    "MAHAVISHNU_HEARTBEAT_SECONDS": "0.2",
    # Shared schedulers and workers live as long as the test process: shorter intervals cost it CPU time all along.
    "MAHAVISHNU_SUPERVISOR_INTERVAL_SECONDS": "0.2",
    "MAHAVISHNU_SCHEDULER_INTERVAL_SECONDS": "0.25",
    "MAHAVISHNU_CANCEL_GRACE_SECONDS": "0.3",
    "MAHAVISHNU_SHUTDOWN_GRACE_SECONDS": "0.5",
    "MAHAVISHNU_REDISPATCH_SECONDS": "0.5",
    # A busy machine delays a process by seconds: no lease and no worker may expire because of that.
    "MAHAVISHNU_LEASE_SECONDS": "60",
    "MAHAVISHNU_WORKER_TIMEOUT_SECONDS": "60",
    # Nor may it decide whether the next stage of a run is queued, which is an event, or continued inline.
    "MAHAVISHNU_INLINE_CONTINUATION_SECONDS": "60",
    "MAHAVISHNU_PROGRESS_INTERVAL_SECONDS": "30",
}
LEASE_SECONDS = 6.0
SHORT_LEASE = {
    **FAST_POLLING,
    "MAHAVISHNU_LEASE_SECONDS": str(LEASE_SECONDS),
    "MAHAVISHNU_WORKER_TIMEOUT_SECONDS": "5",
}
"""For tests of workers without heartbeats: they wait until the lease expires."""

JOBS = {"MAHAVISHNU_APPS": "tests.jobs"}


@pytest.fixture(scope="session")
def engine_server(start_shared_server: StartServer) -> Iterator[MahavishnuServer]:
    """Start one server for all tests of the engine, with two schedulers, so that every test covers two at once."""
    server = start_shared_server(environment={**JOBS, **FAST_POLLING})
    engine = Engine(server)
    engine.scheduler()
    engine.scheduler()
    yield server
    engine.close()


@pytest.fixture
def engine(engine_server: MahavishnuServer) -> Iterator[Engine]:
    """Return an engine for this test's workers. Use a pool that no other test uses: see `pool`."""
    yield from engine_of(engine_server)


class Files:
    """Files shared by a test and its stages: a gate that stages wait for, and a journal that they write."""

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


@pytest.fixture(scope="session")
def session_worker(engine_server: MahavishnuServer) -> Iterator[CeleryWorker]:
    """Start the worker of `shared_worker`."""
    engine = Engine(engine_server)
    yield engine.worker(pool_id="shared")
    engine.close()


@pytest.fixture(scope="session")
def session_patient_worker(engine_server: MahavishnuServer) -> Iterator[CeleryWorker]:
    """Start the worker of `patient_worker`."""
    engine = Engine(engine_server)
    yield engine.worker(pool_id="patient", MAHAVISHNU_CANCEL_GRACE_SECONDS="30")
    engine.close()


@pytest.fixture
def shared_worker(session_worker: CeleryWorker, engine: Engine) -> Iterator[CeleryWorker]:
    """Return an idle worker with one slot in its own pool, for tests that kill at most its child or supervisor."""
    yield session_worker
    engine.finish_runs(session_worker.pool_id)


@pytest.fixture
def shared_pool(shared_worker: CeleryWorker) -> str:
    """Return the pool of `shared_worker`, for tests that need the worker only to run stages."""
    return shared_worker.pool_id


@pytest.fixture
def patient_worker(session_patient_worker: CeleryWorker, engine: Engine) -> Iterator[CeleryWorker]:
    """Return an idle worker like `shared_worker` that gives a cancelled stage 30 s to end, on a busy machine too."""
    yield session_patient_worker
    engine.finish_runs(session_patient_worker.pool_id)


WritePackages = Callable[..., Path]


@pytest.fixture
def write_packages(settings: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[WritePackages]:
    """Provide a function that writes packages, each given as the text of its `workflows.py`, and names them."""
    # Imported here, because it requires Django's settings.
    from orchestration.sdk import registry

    monkeypatch.setattr(registry, "_definitions", dict(registry.definitions()))
    monkeypatch.syspath_prepend(tmp_path)

    def write(**packages: str) -> Path:
        for package, text in packages.items():
            folder = tmp_path / package
            folder.mkdir()
            (folder / "workflows.py").write_text(text)
        settings.MAHAVISHNU_APPS = list(packages)
        return tmp_path

    yield write
    for name in [name for name in sys.modules if name.partition(".")[0] in settings.MAHAVISHNU_APPS]:
        del sys.modules[name]
