"""A renewed certificate: processes restart one after another, and clients over TLS lose nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

import mahavishnu_client
from mahavishnu_site.dev_certificate import write_certificate
from mahavishnu_site.serve.rolling_restart import RESTART_SIGNAL
from tests.events.announcements import announce
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST
from tests.harness.programs import PROJECT_DIR
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import eventually

APPLICATION = "mahavishnu_site.asgi:application"
CHANNEL = "workflow:wf_renewal"
CLIENTS = 40
PROCESSES = 2


@contextlib.contextmanager
def running(server: MahavishnuServer, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    daphne = (sys.executable, "-m", "daphne", "--verbosity", "0", "--fd", "0", APPLICATION)
    with (server.var_dir / "tls.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mahavishnu_site.serve.prefork", *daphne],
            cwd=PROJECT_DIR,
            env={**server.environment, "MAHAVISHNU_PROCESSES": str(PROCESSES), **variables},
            stdout=log,
            stderr=log,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(60)


def served_certificate(port: int) -> bytes | None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        contextlib.suppress(OSError),
        socket.create_connection((HOST, port), timeout=30) as connection,
        context.wrap_socket(connection) as secured,
    ):
        return secured.getpeercert(binary_form=True)
    return None


async def collect(client: mahavishnu_client.Client, seen: list[int]) -> None:
    async for event in client.events(CHANNEL):
        assert isinstance(event, mahavishnu_client.Event), event
        seen.append(event.seq)


@pytest.mark.chaos
async def test_renewed_certificate_loses_no_event(start_server: StartServer, tmp_path: Path) -> None:
    server = start_server(started=False)
    files = write_certificate(tmp_path / "tls", ["localhost", HOST])
    context = ssl.create_default_context(cafile=str(files.authority))
    variables = {"MAHAVISHNU_TLS_CERTIFICATE": str(files.certificate), "MAHAVISHNU_TLS_KEY": str(files.key)}
    received: list[list[int]] = [[] for _ in range(CLIENTS)]
    with running(server, **variables) as parent:
        async with contextlib.AsyncExitStack() as stack:
            await eventually(lambda: served_certificate(server.port) is not None, within_seconds=60)
            old = served_certificate(server.port)
            clients = [
                await stack.enter_async_context(mahavishnu_client.connect(f"wss://{HOST}:{server.port}", ssl=context))
                for _ in received
            ]
            tasks = [asyncio.create_task(collect(client, seen)) for client, seen in zip(clients, received, strict=True)]
            async with asyncio.timeout(60):
                for client in clients:
                    await client.wait_live()
            await asyncio.to_thread(announce, server, CHANNEL, 100)
            await eventually(lambda: all(received), within_seconds=60)

            context.load_verify_locations(write_certificate(tmp_path / "tls", ["localhost", HOST]).authority)
            parent.send_signal(RESTART_SIGNAL)
            log = server.var_dir / "tls.log"

            def restarted() -> bool:
                return log.read_text().count("started (pid") == 2 * PROCESSES

            while not restarted():
                await asyncio.to_thread(announce, server, CHANNEL, 100)
                await asyncio.sleep(0.05)
            # The last process that restarted serves, too.
            await eventually(
                lambda: all(served_certificate(server.port) not in (None, old) for _ in range(10)), within_seconds=60
            )
            await asyncio.to_thread(announce, server, CHANNEL, 100)
            last = server.services_driver.execute(
                "from realtime.models import Event\nresult = Event.objects.order_by('-seq')[0].seq"
            )
            await eventually(lambda: all(seen[-1] == last for seen in received), within_seconds=60)
            for task in tasks:
                task.cancel()
    expected = list(range(received[0][0], last + 1))
    assert len(expected) > 20
    for seen in received:
        assert all(later > earlier for earlier, later in pairwise(seen))
        assert seen == expected[-len(seen) :]
        assert len(seen) >= len(expected) - 1
    assert "Traceback" not in log.read_text()
