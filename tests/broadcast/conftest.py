"""The sandbox of a relay, and a server whose channel layer may fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from tests.broadcast.change_stream import PUBLISH_TIMEOUT_SECONDS, RELAY_POLL_SECONDS, prepare
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.valkey import Valkey

if TYPE_CHECKING:
    from tests.broadcast.relay_sandbox import RelaySandbox


@pytest.fixture
async def sandbox(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RelaySandbox]:
    """Run a relay that the test controls step by step."""
    # Imported here, because models can be only once Django is set up.
    from tests.broadcast.relay_sandbox import running_sandbox

    async with running_sandbox(monkeypatch) as sandbox:
        yield sandbox


_SET_IDLE = """
from orchestration import services
from orchestration.models import Worker
for worker in Worker.objects.exclude(status="idle"):
    services.change_worker_status(worker_id=worker.id, status="idle")
"""


@pytest.fixture(scope="session")
def shared_server_with_outages(start_shared_server: StartServer) -> Iterator[MahavishnuServer]:
    server = start_shared_server(publish_timeout_seconds=PUBLISH_TIMEOUT_SECONDS, relay_poll_seconds=RELAY_POLL_SECONDS)
    prepare(server)
    yield server
    server.close()


@pytest.fixture
def server_with_outages(shared_server_with_outages: MahavishnuServer) -> Iterator[MahavishnuServer]:
    """Return a server with idle workers. A test may stop or freeze it and its Valkey."""
    shared_server_with_outages.services_driver.execute(_SET_IDLE)
    yield shared_server_with_outages
    # A test that failed may have left them stopped, and the next one would fail too.
    shared_server_with_outages.valkey.ensure_running()
    shared_server_with_outages.ensure_running()
