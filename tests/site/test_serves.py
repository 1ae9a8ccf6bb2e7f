"""`MAHAVISHNU_SERVES` and `MAHAVISHNU_PAGES_PORT`: WebSockets and pages in separate processes."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from playwright.async_api import Browser, expect
from pytest_django import Settings
from websockets.exceptions import InvalidStatus

from mahavishnu_site.management.commands import serve as serve_command
from mahavishnu_site.management.commands.serve import programs_of
from tests.harness.browser import open_page
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.health import read_health
from tests.harness.ports import free_port
from tests.harness.serve import StartServe
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until
from tests.site.check_command import run_check


@pytest.fixture(scope="module")
def websockets(start_module_server: StartServer) -> MahavishnuServer:
    """Start a process that serves WebSockets only."""
    return start_module_server(environment={"MAHAVISHNU_SERVES": "websocket"})


@pytest.fixture(scope="module")
def pages(start_module_server: StartServer, websockets: MahavishnuServer) -> MahavishnuServer:
    """Start a process beside it that serves pages only."""
    return start_module_server(
        beside=websockets, environment={"MAHAVISHNU_SERVES": "pages", "MAHAVISHNU_LOG_REPEAT_SECONDS": "60"}
    )


def get(url: str) -> tuple[int, str]:
    """Return the status and the text of a page."""
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def answers(url: str) -> bool:
    """Return whether a server answers."""
    try:
        get(url)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("path", ["/", "/admin/", "/admin", "/admin/login/", "/static/dashboard/main.js", "/none"])
def test_websocket_process_names_the_process_of_a_page(websockets: MahavishnuServer, path: str) -> None:
    assert get(f"{websockets.http_url}{path}") == (
        421,
        "This process serves WebSockets and /health. Pages are served by the process with MAHAVISHNU_SERVES=pages.\n",
    )


async def test_websocket_process_serves_websockets_and_health(websockets: MahavishnuServer) -> None:
    async with connect(websockets) as client:
        await client.subscribe("global")
        status, report = read_health(websockets)
    assert (status, report["relay"], report["connections"]) == (200, "up", 1)


async def test_pages_process_rejects_websockets_and_logs_it_once(pages: MahavishnuServer) -> None:
    for _ in range(3):
        with pytest.raises(InvalidStatus) as rejected:
            async with connect(pages):
                pass
        assert rejected.value.response.status_code == 403
    assert pages.log_text().count("this process serves pages only (MAHAVISHNU_SERVES=pages)") == 1


@pytest.mark.parametrize("path", ["/", "/admin/login/", "/static/dashboard/main.js"])
def test_pages_process_serves_pages(pages: MahavishnuServer, path: str) -> None:
    assert get(f"{pages.http_url}{path}")[0] == 200


def test_pages_process_is_healthy_without_a_relay(pages: MahavishnuServer) -> None:
    get(f"{pages.http_url}/")
    status, report = read_health(pages)
    assert (status, report["status"], report["relay"]) == (200, "healthy", "off")
    assert (report["database"], report["redis"], report["relay_lag_ms"]) == ("up", "up", None)


@pytest.mark.browser
async def test_serve_starts_a_process_for_pages_whose_index_page_finds_the_websocket(
    serve: StartServe, browser: Browser
) -> None:
    pages_port = free_port()
    run = serve(MAHAVISHNU_PAGES_PORT=str(pages_port))
    run.wait_healthy()
    run.wait_for(f"admin      http://127.0.0.1:{pages_port}/admin/")
    assert get(f"http://{run.address}/")[0] == 421
    wait_until(lambda: answers(f"http://127.0.0.1:{pages_port}/health"), timeout_seconds=60, what="the pages process")
    async with open_page(browser, f"http://127.0.0.1:{pages_port}/") as page:
        await expect(page.locator("body")).to_have_attribute("data-connection", "live")
    assert get(f"http://127.0.0.1:{pages_port}/admin/login/")[0] == 200
    run.main.terminate()
    run.wait_ended()
    assert run.main.returncode == 0


def test_serve_gives_each_process_its_part_only_with_a_port_for_pages() -> None:
    def parts(**arguments: Any) -> dict[str, dict[str, str]]:
        return {each.name: dict(each.environment) for each in programs_of(embeds_valkey=False, **arguments)}

    assert parts(processes=1) == {"web": {}, "worker": {}, "scheduler": {}}
    assert parts(processes=2, separates_pages=True) == {
        "web_processes": {"MAHAVISHNU_SERVES": "websocket"},
        "pages": {"MAHAVISHNU_SERVES": "pages", "MAHAVISHNU_PROCESSES": "1"},
        "worker": {},
        "scheduler": {},
    }


def test_serve_names_the_port_of_pages_that_is_taken(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setattr(serve_command.Command, "migrate", lambda self: pytest.fail("it started"))
    settings.MAHAVISHNU_PORT = free_port()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = settings.MAHAVISHNU_PAGES_PORT = other.getsockname()[1]
        with pytest.raises(CommandError) as error:
            call_command("serve")
    assert str(error.value) == (
        f"Port {port} on 127.0.0.1 is taken by another program. Stop it, or set MAHAVISHNU_PAGES_PORT to a free port."
    )


def test_settings_reject_what_no_process_serves(tmp_path: Path) -> None:
    done = run_check(tmp_path, MAHAVISHNU_SERVES="page", MAHAVISHNU_PORT="9000", MAHAVISHNU_PAGES_PORT="9000")
    assert (done.returncode, done.stderr.splitlines()) == (
        1,
        [
            "MAHAVISHNU_SERVES='page': expected one of websocket, pages, both",
            "MAHAVISHNU_PAGES_PORT='9000': expected another port than MAHAVISHNU_PORT, which is 9000",
        ],
    )
