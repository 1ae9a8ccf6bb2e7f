"""The examples of the README, run as printed against a real server that is killed and restarted meanwhile."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest
from playwright.async_api import Browser

from tests.docs.markdown import blocks, page
from tests.harness.browser import LOST_SERVER, open_page, run_in_console
from tests.harness.client import connect, wait_for_relay
from tests.harness.fixtures import StartServer
from tests.harness.health import wait_for_connections
from tests.harness.server import MahavishnuServer

README = page("README.md")
LINE_TIMEOUT_SECONDS = 60

NextLine = Callable[[], Awaitable[str]]


def example(language: str, server: MahavishnuServer, *, role: str = "run") -> str:
    """Return the runnable example in this language, with the address of the server."""
    (block,) = blocks(README, language=language, role=role)
    assert block.text.count("ws://127.0.0.1:8690") == 1
    return block.text.replace("ws://127.0.0.1:8690", server.ws_url)


@asynccontextmanager
async def python_example(server: MahavishnuServer, directory: Path) -> AsyncIterator[NextLine]:
    path = directory / "example.py"
    path.write_text(example("python", server), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-u",
        path,
        stdout=PIPE,
        # Otherwise its first reconnect takes up to five seconds.
        env={**os.environ, "WEBSOCKETS_BACKOFF_INITIAL_DELAY": "0.2", "WEBSOCKETS_BACKOFF_MIN_DELAY": "0.2"},
    )
    assert process.stdout is not None
    stdout = process.stdout

    async def next_line() -> str:
        async with asyncio.timeout(LINE_TIMEOUT_SECONDS):
            return (await stdout.readline()).decode().rstrip()

    try:
        yield next_line
    finally:
        process.kill()
        await process.wait()


@asynccontextmanager
async def javascript_example(
    server: MahavishnuServer, browser: Browser, *, role: str = "run"
) -> AsyncIterator[NextLine]:
    lines: asyncio.Queue[str] = asyncio.Queue()
    # The README says to paste it into this page.
    async with open_page(browser, f"{server.http_url}/", allowed_errors=LOST_SERVER) as tab:
        tab.on("console", lambda message: lines.put_nowait(message.text) if message.type == "log" else None)
        await run_in_console(tab, example("javascript", server, role=role))
        yield lambda: asyncio.wait_for(lines.get(), LINE_TIMEOUT_SECONDS)


@pytest.fixture(scope="module")
def server(start_module_server: StartServer) -> MahavishnuServer:
    """Start a server for this module alone, because the README has fixed ids and a test kills it."""
    return start_module_server()


async def test_readme_python_client_prints_every_event_once_across_a_server_crash(
    server: MahavishnuServer, unique: Callable[[str], str], tmp_path: Path
) -> None:
    await expect_every_event_once(server, python_example(server, tmp_path), connections=1, unique=unique)


@pytest.mark.browser
async def test_readme_javascript_client_prints_every_event_once_across_a_server_crash(
    server: MahavishnuServer, browser: Browser, unique: Callable[[str], str]
) -> None:
    # The page itself has a connection too.
    await expect_every_event_once(server, javascript_example(server, browser), connections=2, unique=unique)


@pytest.mark.browser
async def test_readme_javascript_client_shows_the_states_of_a_run(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    server.services.create_workflow(workflow_id="wf_1", adapter="python", prompt="", stages=["one"])
    async with javascript_example(server, browser, role="state") as next_line:
        assert await next_line() == "pending 0 of 1 stages live"
        await asyncio.to_thread(server.services.start_workflow, workflow_id="wf_1")
        assert await next_line() == "running 0 of 1 stages live"


async def expect_every_event_once(
    server: MahavishnuServer,
    running: AbstractAsyncContextManager[NextLine],
    *,
    connections: int,
    unique: Callable[[str], str],
) -> None:
    """Kill and restart the server while the example runs, and expect that it prints the events of five pools."""
    pool_ids = [unique("pool") for _ in range(5)]
    # SQLite assigns positions without gaps.
    newest = server.services_driver.execute("from realtime.models import Event\nresult = Event.objects.count()")
    await wait_for_relay(server, newest)
    await wait_for_connections(server, 0)
    printed: list[tuple[str, ...]] = []
    async with running as next_line:
        await wait_for_connections(server, connections)
        await create_pools(server, *pool_ids[:2])
        printed += [parse_line(await next_line()) for _ in range(2)]
        server.kill()
        await create_pools(server, *pool_ids[2:4])
        await asyncio.to_thread(server.restart)
        await create_pools(server, pool_ids[4])
        printed += [parse_line(await next_line()) for _ in range(3)]
    assert printed == [
        (str(position), "pool.created", pool_id) for position, pool_id in enumerate(pool_ids, start=newest + 1)
    ]


async def test_readme_python_client_waits_before_it_retries_a_full_server(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = start_server(max_connections=1)
    began = asyncio.get_running_loop().time()
    async with connect(server), python_example(server, tmp_path) as next_line:
        for _ in range(4):
            refused = "TOO_MANY_CONNECTIONS Connection limit reached (1); try again later"
            assert await next_line() == refused
        # Measured from before the first line: a delayed test may read several lines at once.
        assert asyncio.get_running_loop().time() - began > 3 * 0.9


async def create_pools(server: MahavishnuServer, *pool_ids: str) -> None:
    for pool_id in pool_ids:
        await asyncio.to_thread(server.services.create_pool, pool_id=pool_id)


def parse_line(line: str) -> tuple[str, ...]:
    """Return the position, name and pool of a printed event, or the unparsed line."""
    match = re.fullmatch(r"(\d+) (\S+) \{.*(pool_\d+).*\}", line)
    return match.groups() if match else (line,)


async def test_readme_services_example_publishes_its_events(server: MahavishnuServer) -> None:
    (block,) = blocks(README, language="python", role="services")
    async with connect(server) as client:
        await client.subscribe("workflow:wf_1")
        await asyncio.to_thread(server.services_driver.execute, block.text)
        assert [event["event"] for event in await client.events(5)] == [
            "workflow.created",
            "workflow.started",
            "workflow.stage_started",
            "workflow.stage_completed",
            "workflow.cancelled",
        ]
