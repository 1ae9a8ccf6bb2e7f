"""`docs/operations.md`: its commands serve and drain, and its log lines and health fields are the real ones."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

from realtime.protocol.errors import CloseCode
from tests.docs.markdown import PROJECT_DIR, blocks, page, table
from tests.docs.message_comparison import comparable
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.health import read_health
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until

OPERATIONS = page("docs/operations.md")
PROTOCOL = page("docs/protocol.md")
START_TIMEOUT_SECONDS = 40
STOP_TIMEOUT_SECONDS = 60


@pytest.fixture
def server(start_server: StartServer) -> MahavishnuServer:
    """Provide the address, environment and database of a server that the test starts itself."""
    return start_server(started=False)


@pytest.fixture(params=["daphne", "processes"])
def process(request: pytest.FixtureRequest, server: MahavishnuServer) -> Iterator[subprocess.Popen[bytes]]:
    """Run the documented command of that role on the port of the server."""
    (block,) = blocks(OPERATIONS, language="sh", role=request.param)
    line = block.text.replace(" 8690 ", f" {server.port} ").replace(".venv/bin/", f"{Path(sys.executable).parent}/")
    # Two processes show the same as four.
    line = line.replace("MAHAVISHNU_PROCESSES=4 ", "MAHAVISHNU_PROCESSES=2 ")
    # Shell assignments come before the command.
    variables, program, arguments = line.partition(f"{Path(sys.executable).parent}/")
    with (server.var_dir / "daphne.log").open("wb") as log:
        process = subprocess.Popen(
            f"{variables} exec {program}{arguments}",
            shell=True,
            cwd=PROJECT_DIR,
            env={**server.environment, "MAHAVISHNU_OPEN_TO_EVERYONE": "1"},
            stdout=log,
            stderr=log,
        )
    try:
        wait_until(lambda: is_healthy(server), timeout_seconds=START_TIMEOUT_SECONDS, what="the health report")
        yield process
    finally:
        process.kill()
        process.wait()


def is_healthy(server: MahavishnuServer) -> bool:
    try:
        return read_health(server)[0] == HTTPStatus.OK
    except OSError:
        return False


def test_documented_log_lines_are_in_the_source() -> None:
    packages = ("mahavishnu_site", "realtime", "orchestration")
    modules = [path for package in packages for path in sorted((PROJECT_DIR / package).rglob("*.py"))]
    source = "\n".join(path.read_text(encoding="utf-8") for path in modules)
    for row in table(OPERATIONS, first="Line"):
        parts = [re.escape(part) for part in re.split(r"\s*…\s*", row["Line"]) if part]
        assert re.search(r'"[^\n"]*' + r"[^\n]*".join(parts), source), row["Line"]


async def test_documented_command_serves_and_drains(server: MahavishnuServer, process: subprocess.Popen[bytes]) -> None:
    documented = {field for row in table(OPERATIONS, first="Field") for field in row["Field"].split(", ")}
    _, report = await asyncio.to_thread(read_health, server)
    assert set(report) == documented

    (notice, *_) = [block for block in blocks(PROTOCOL, role="notice") if block.section == "session.draining"]
    async with connect(server) as client:
        assert (await client.subscribe("global"))["data"]["status"] == "subscribed"
        process.terminate()
        close_frame = await client.next()
        assert comparable(close_frame, exact_seq=True) == comparable(notice.message, exact_seq=True)
        assert await client.wait_closed() == (CloseCode.RESTARTING, "DRAINING")
    assert await asyncio.to_thread(process.wait, STOP_TIMEOUT_SECONDS) == 0
