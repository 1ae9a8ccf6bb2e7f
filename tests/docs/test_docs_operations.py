"""`docs/operations.md`: its command line serves, drains as `docs/protocol.md` shows, and its health fields are all."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from realtime.protocol import CloseCode
from tests.docs.comparing import comparable
from tests.docs.pages import PROJECT_DIR, blocks, page, shell_lines, table
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until

OPERATIONS = page("docs/operations.md")
PROTOCOL = page("docs/protocol.md")
START_TIMEOUT_SECONDS = 40
STOP_TIMEOUT_SECONDS = 15


@pytest.fixture
def server(start_server: StartServer) -> MahavishnuServer:
    """The address, the environment and the database of a server that the test itself starts."""
    return start_server(started=False)


@pytest.fixture
def daphne(server: MahavishnuServer) -> Iterator[subprocess.Popen[bytes]]:
    """The documented command line, on this server's port."""
    (line,) = [line for line in shell_lines(OPERATIONS) if "/daphne " in line]
    assert line.count(" 8690 ") == 1
    line = line.replace(" 8690 ", f" {server.port} ").replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    with (server.var_dir / "daphne.log").open("wb") as log:
        process = subprocess.Popen(
            f"exec {line}", shell=True, cwd=PROJECT_DIR, env=server.environment, stdout=log, stderr=log
        )
    wait_until(lambda: health(server) is not None, timeout_seconds=START_TIMEOUT_SECONDS, what="daphne's answer")
    yield process
    process.kill()
    process.wait()


def health(server: MahavishnuServer) -> dict[str, object] | None:
    try:
        with urllib.request.urlopen(f"{server.http_url}/health", timeout=5) as answer:
            return dict(json.load(answer))
    except urllib.error.URLError:
        return None


async def test_the_documented_command_serves_and_drains(
    server: MahavishnuServer, daphne: subprocess.Popen[bytes]
) -> None:
    documented = {field for row in table(OPERATIONS, first="Field") for field in row["Field"].split(", ")}
    report = await asyncio.to_thread(health, server)
    assert report is not None
    assert set(report) == documented

    (notice,) = blocks(PROTOCOL, role="notice")
    async with connect(server) as client:
        assert (await client.subscribe("global"))["data"]["status"] == "subscribed"
        daphne.terminate()
        goodbye = await client.next()
        assert comparable(goodbye, exact_seq=True) == comparable(notice.message, exact_seq=True)
        assert (await client.wait_closed())[0] == CloseCode.RESTARTING
    assert await asyncio.to_thread(daphne.wait, STOP_TIMEOUT_SECONDS) == 0
