"""Clients written by others: those printed in the API reference, and one like those of public libraries."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, ConsoleMessage
from websockets.asyncio.client import connect as websocket_connect

from tests.harness.browser import NODE, run_in_console
from tests.harness.health import read_health
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import eventually, wait_until
from tests.reference import ADDRESS, JAVASCRIPT_CLIENT, PYTHON_CLIENT

WITHIN_SECONDS = 60

STARTED = "Workflow started: abc123"
COMPLETED = "Workflow completed!"

# The workflow of the printed clients. Another test may have created it, so it is deleted first.
CREATE = """
from orchestration import services
from orchestration.models import Stage, Workflow

Stage.objects.filter(workflow_id="abc123").delete()
Workflow.objects.filter(pk="abc123").delete()
services.create_workflow(workflow_id="abc123", adapter="llamaindex", prompt="Write code", stages=["only"])
"""


def with_address(client: str, server: MahavishnuServer) -> str:
    """Return the printed client with the server's port, as the printed port may be in use."""
    assert client.count(ADDRESS) == 1
    return client.replace(ADDRESS, f"{HOST}:{server.port}")


def wait_for_subscriber(server: MahavishnuServer) -> None:
    wait_until(
        lambda: read_health(server)[1]["rooms"] > 0, timeout_seconds=WITHIN_SECONDS, what="the client's subscription"
    )


def run_workflow(server: MahavishnuServer) -> None:
    """Start and complete the printed workflow, once a client has subscribed."""
    wait_for_subscriber(server)
    server.services.start_workflow(workflow_id="abc123")
    server.services.complete_stage(workflow_id="abc123", stage_name="only")
    server.services.complete_workflow(workflow_id="abc123")


@pytest.fixture
def workflow(server: MahavishnuServer) -> None:
    wait_until(
        lambda: read_health(server)[1]["rooms"] == 0,
        timeout_seconds=WITHIN_SECONDS,
        what="the end of other tests' subscriptions",
    )
    server.services_driver.execute(CREATE)


@contextmanager
def running(*command: str, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.usefixtures("workflow")
def test_printed_python_client_runs(server: MahavishnuServer, tmp_path: Path) -> None:
    (tmp_path / "client.py").write_text(with_address(PYTHON_CLIENT, server))
    with running(sys.executable, "client.py", cwd=tmp_path) as client:
        run_workflow(server)
        output, _ = client.communicate(timeout=WITHIN_SECONDS)
    assert (client.returncode, output.splitlines()) == (0, [STARTED, COMPLETED])


@pytest.mark.usefixtures("workflow")
def test_printed_javascript_client_runs_in_node(server: MahavishnuServer, tmp_path: Path) -> None:
    (tmp_path / "client.js").write_text(with_address(JAVASCRIPT_CLIENT, server))
    with running(NODE, "client.js", cwd=tmp_path) as client:
        run_workflow(server)
        assert client.stdout is not None
        lines = [client.stdout.readline() for _ in range(2)]
    assert lines == [f"{STARTED}\n", f"{COMPLETED}\n"]


@pytest.mark.browser
@pytest.mark.usefixtures("workflow")
async def test_printed_javascript_client_runs_in_a_browser(server: MahavishnuServer, browser: Browser) -> None:
    lines: asyncio.Queue[str] = asyncio.Queue()

    def on_console(message: ConsoleMessage) -> None:
        # Chromium's own messages, such as a missing icon, have other types.
        if message.type == "log":
            lines.put_nowait(message.text)

    async with await browser.new_page() as page:
        page.on("console", on_console)
        # A page of the server itself: the origin of a file, or of another site, would be rejected.
        await page.goto(f"{server.http_url}/health")
        await run_in_console(page, with_address(JAVASCRIPT_CLIENT, server))
        await asyncio.to_thread(run_workflow, server)
        async with asyncio.timeout(WITHIN_SECONDS):
            assert [await lines.get() for _ in range(2)] == [STARTED, COMPLETED]
            await page.evaluate("ws.close()")
            assert await lines.get() == "Disconnected"


@pytest.mark.browser
async def test_page_with_a_null_origin_is_rejected_in_a_browser(server: MahavishnuServer, browser: Browser) -> None:
    log_before = server.log_text()
    async with await browser.new_page() as page:
        outcome = await page.evaluate(
            """url => new Promise(resolve => {
                const ws = new WebSocket(url);
                ws.onopen = () => resolve("open");
                ws.onclose = event => resolve(event.code);
            })""",
            server.ws_url,
        )
    assert outcome == 1006
    await eventually(
        lambda: "origin 'null' is neither this server's own" in server.log_text().removeprefix(log_before),
        within_seconds=WITHIN_SECONDS,
        what="the rejection in the log",
    )


class PendingClient:
    """A client like `mcp_common.websocket.WebSocketClient`.

    It keeps a table of pending requests by `id`, sends null in every unused field, and subscribes with an event, for
    which it expects no response.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._pending: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self.events: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()

    async def __aenter__(self) -> PendingClient:
        self._connection = await websocket_connect(self._url)
        self._receiving = asyncio.create_task(self._receive())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._receiving.cancel()
        await asyncio.gather(self._receiving, return_exceptions=True)
        await self._connection.close()

    async def send_request(self, event: str, data: dict[str, Any]) -> dict[str, Any]:
        message = self._message("request", event, data, correlation_id=str(uuid.uuid4()))
        answer = self._pending[message["id"]] = asyncio.get_running_loop().create_future()
        await self._connection.send(json.dumps(message))
        async with asyncio.timeout(WITHIN_SECONDS):
            answered: dict[str, Any] = await answer
            return answered

    async def subscribe_to_room(self, room: str) -> None:
        await self._connection.send(json.dumps(self._message("event", "subscribe", {"room": room})))

    async def unsubscribe_from_room(self, room: str) -> None:
        await self._connection.send(json.dumps(self._message("event", "unsubscribe", {"room": room})))

    @staticmethod
    def _message(type_: str, event: str, data: dict[str, Any], correlation_id: str | None = None) -> dict[str, Any]:
        return {
            "id": str(uuid.uuid4()),
            "correlation_id": correlation_id,
            "type": type_,
            "event": event,
            "data": data,
            "timestamp": "2026-02-10T20:00:00.123456",
            "room": None,
            "error_code": None,
            "error_message": None,
        }

    async def _receive(self) -> None:
        async for text in self._connection:
            message = json.loads(text)
            # The library validates every message.
            assert isinstance(message["id"], str)
            assert isinstance(message["data"], dict)
            assert isinstance(message["timestamp"], str)
            assert message["type"] in ("response", "event", "error", "pong")
            answer = self._pending.pop(message.get("correlation_id"), None)
            if answer is not None:
                answer.set_result(message)
            elif message["type"] == "event":
                self.events.put_nowait((message["event"], message["data"]))


async def test_library_style_client_matches_answers_by_request_id(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    pool_id = unique("pool")
    server.services.create_pool(pool_id=pool_id)
    async with PendingClient(server.ws_url) as client, asyncio.timeout(WITHIN_SECONDS):
        assert (await client.events.get())[0] == "session.created"
        await client.subscribe_to_room(f"pool:{pool_id}")
        status = await client.send_request("get_pool_status", {"pool_id": pool_id})
        assert status["data"] == {"pool_id": pool_id, "status": "active", "workers": []}
        server.services.drain_pool(pool_id=pool_id)
        name, data = await client.events.get()
        assert (name, data["pool_id"]) == ("pool.drained", pool_id)
        missing = await client.send_request("get_pool_status", {"pool_id": "nowhere"})
        assert (missing["type"], missing["error_code"]) == ("error", "NOT_FOUND")
        await client.unsubscribe_from_room(f"pool:{pool_id}")
        # The client ignores the response to this; later requests are answered.
        assert (await client.send_request("get_pool_status", {"pool_id": pool_id}))["type"] == "response"
        server.services.close_pool(pool_id=pool_id)
        closed = await client.send_request("get_pool_status", {"pool_id": pool_id})
        assert closed["data"]["status"] == "closed"
        assert client.events.empty()
