"""Statuses on admin pages: updated over one WebSocket, and never shown as live when they are not."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import pytest
from playwright.async_api import Browser, Page, WebSocketRoute, expect

from tests.admin.log_in import log_in_as_superuser
from tests.harness.browser import LOST_SERVER, open_page
from tests.harness.server import MahavishnuServer

pytestmark = pytest.mark.browser

Unique = Callable[[str], str]


class Socket:
    """The WebSocket of a page, which a test can cut."""

    def __init__(self) -> None:
        self._routes: list[WebSocketRoute] = []
        self._is_cut = False

    async def route(self, route: WebSocketRoute) -> None:
        self._routes.append(route)
        if self._is_cut:
            await route.close(code=1011)
        else:
            route.connect_to_server()

    async def cut(self) -> None:
        """Close the connection, and each one that follows."""
        self._is_cut = True
        await self._routes[-1].close(code=1011)

    @property
    def count(self) -> int:
        return len(self._routes)


@asynccontextmanager
async def admin_page(server: MahavishnuServer, browser: Browser, path: str) -> AsyncIterator[tuple[Page, Socket]]:
    """Open a page of the admin as a superuser."""
    socket = Socket()
    async with open_page(browser, "about:blank", allowed_errors=LOST_SERVER) as page:
        await page.route_web_socket("**", socket.route)
        await log_in_as_superuser(server, page)
        await page.goto(f"{server.http_url}/admin/orchestration/{path}")
        await expect(page.locator("#live")).to_have_text("● Live")
        yield page, socket


def start(server: MahavishnuServer, workflow_id: str, **arguments: Any) -> None:
    server.services.create_workflow(
        workflow_id=workflow_id, adapter="python", prompt="", stages=["one", "two"], **arguments
    )
    server.services.start_workflow(workflow_id=workflow_id)


def change_page(kind: str, id: str) -> str:
    return f"{kind}/{quote(id.replace('_', '_5F'))}/change/"


async def test_list_shows_each_change_of_unfinished_runs(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    ids = [unique("wf") for _ in range(3)]
    for id in ids:
        start(server, id)
    server.services.cancel_workflow(workflow_id=ids[2])
    async with admin_page(server, browser, f"workflow/?q={ids[0][:3]}") as (page, socket):

        def row(id: str) -> Any:
            return page.locator("#result_list tr").filter(has=page.locator(f'.id[title="{id}"]'))

        await expect(row(ids[0]).locator(".status")).to_have_text("◐ running")
        server.services.complete_stage(workflow_id=ids[0], stage_name="one")
        await expect(row(ids[0]).locator(".stages")).to_have_text("1 of 2")
        server.services.fail_workflow(workflow_id=ids[0], error="Out of luck")
        await expect(row(ids[0]).locator(".status")).to_have_text("✕ failed")
        await expect(row(ids[0]).locator(".status")).to_have_class("status status-failure")
        await expect(row(ids[1]).locator(".status")).to_have_text("◐ running")
        await expect(row(ids[2]).locator(".status")).to_have_text("⊘ cancelled")
        assert socket.count == 1


async def test_page_of_a_run_shows_its_stages_and_says_that_the_rest_is_older(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    id = unique("wf")
    start(server, id)
    async with admin_page(server, browser, change_page("workflow", id)) as (page, _):
        await expect(page.locator(".facts .status")).to_have_text("◐ running")
        await expect(page.locator("#changed")).to_have_count(0)
        server.services.start_stage(workflow_id=id, stage_name="one")
        await expect(page.locator(".read-only-inline .status")).to_have_text(["◐ running", "○ pending"])
        await expect(page.locator("#changed")).to_contain_text("Statuses have changed since")
        server.services.fail_stage(workflow_id=id, stage_name="one", error="Out of luck")
        server.services.fail_workflow(workflow_id=id, error="Out of luck")
        await expect(page.locator(".facts .status")).to_have_text("✕ failed")
        await page.get_by_role("link", name="load this page again").click()
        await expect(page.locator(".failure")).to_contain_text("one: Out of luck")


async def test_workers_and_counters_of_a_pool_are_live(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    pool_id, worker_id = unique("pool"), unique("worker")
    server.services.create_pool(pool_id=pool_id)
    server.services.register_worker(worker_id=worker_id, pool_id=pool_id)
    async with admin_page(server, browser, change_page("pool", pool_id)) as (page, _):
        await expect(page.locator(".read-only-inline .status")).to_have_text("✓ idle")
        server.services.change_worker_status(worker_id=worker_id, status="busy")
        await expect(page.locator(".read-only-inline .status")).to_have_text("◐ busy")
        await expect(page.locator('[data-metric="active_workers"]')).to_have_text("1")
        server.services.drain_pool(pool_id=pool_id)
        await expect(page.locator(".facts .status")).to_have_text("! draining")


async def test_statuses_are_dimmed_and_dated_without_a_connection(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    id = unique("wf")
    start(server, id)
    async with admin_page(server, browser, change_page("workflow", id)) as (page, socket):
        badge = page.locator(".facts .status")
        await expect(badge).not_to_have_css("font-style", "italic")
        await socket.cut()
        await expect(page.locator("#live")).to_have_text(re.compile(r"^✕ Offline: as of \d\d:\d\d:\d\d$"))
        await expect(badge).to_have_css("font-style", "italic")


async def test_slash_focuses_the_search_and_stays_a_character_in_a_field(
    server: MahavishnuServer, browser: Browser
) -> None:
    async with open_page(browser, "about:blank") as page:
        await log_in_as_superuser(server, page)
        await page.goto(f"{server.http_url}/admin/orchestration/pool/")
        await page.keyboard.press("/")
        await expect(page.locator("#searchbar")).to_be_focused()
        await expect(page.locator("#searchbar")).to_have_value("")
        await page.keyboard.press("/")
        await expect(page.locator("#searchbar")).to_have_value("/")
