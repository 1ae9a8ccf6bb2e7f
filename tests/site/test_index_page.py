"""The index page, which shows live events of a channel, in a real browser."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.async_api import Browser, Page, expect

from tests.harness.browser import LOST_SERVER, open_page
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

Unique = Callable[[str], str]

CHANGE_STAGE = """
from datetime import datetime, timezone
from django.db import transaction
from realtime.events.receivers import announce_as_given
with transaction.atomic():
    announce_as_given("worker.stage_changed", data=data, rooms=(room,), timestamp=datetime.now(timezone.utc))
"""


async def rows(page: Page) -> list[list[str]]:
    """Return event, about and data of each row, newest first."""
    found: list[list[str]] = await page.evaluate(
        "[...document.querySelectorAll('#events tr')].map(row => [...row.cells].slice(2).map(cell => cell.textContent))"
    )
    return found


async def choose(page: Page, channel: str) -> None:
    await page.get_by_label("Channel").fill(channel)
    await page.get_by_role("button", name="Subscribe").click()
    await expect(page.get_by_role("status")).to_have_text(f"Live: {channel}")


@pytest.mark.browser
async def test_index_page_shows_live_events_of_a_channel(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    pool_id, other_id, worker_id = unique("pool"), unique("pool"), unique("worker")
    async with open_page(browser, f"{server.http_url}/") as page:
        await expect(page.get_by_role("status")).to_have_text("Live: global")
        await expect(page.locator("#address")).to_have_text(server.ws_url)
        await choose(page, f"pool:{pool_id}")
        assert page.url.endswith(f"#pool:{pool_id}")
        server.services.create_pool(pool_id=pool_id)
        server.services.create_pool(pool_id=other_id)
        server.services.register_worker(worker_id=worker_id, pool_id=pool_id)
        await expect(page.locator("#events tr")).to_have_count(3)
        metrics, *others = await rows(page)
        assert (*metrics[:2], metrics[2][:52]) == (
            "pool.status_changed",
            pool_id,
            '{ "status": { "active_workers": 0, "idle_workers": 1',
        )
        state = '"release": "", "draining": false, "workflow_id": null, "stage_name": null'
        assert others == [
            ["worker.added", worker_id, f'{{ "status": "idle", "pool_id": "{pool_id}", {state} }}'],
            ["pool.created", pool_id, "{}"],
        ]
        stage = {"workflow_id": "wf_1", "stage_name": "one"}
        server.services_driver.execute(CHANGE_STAGE, data={"worker_id": worker_id, **stage}, room=f"pool:{pool_id}")
        await expect(page.locator("#events tr")).to_have_count(4)
        newest = ["worker.stage_changed", worker_id, '{ "workflow_id": "wf_1", "stage_name": "one" }']
        assert (await rows(page))[0] == newest
        await page.get_by_role("button", name="Pause").click()
        server.services.drain_pool(pool_id=pool_id)
        await choose(page, f"worker:{worker_id}")
        await choose(page, f"pool:{pool_id}")
        assert await rows(page) == []
        server.services.close_pool(pool_id=pool_id)
        await page.get_by_role("button", name="Pause").click()
        await expect(page.locator("#events tr").first).to_contain_text("pool.closed")


@pytest.mark.browser
async def test_index_page_resumes_after_a_server_restart(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    async with open_page(browser, f"{server.http_url}/#pool:p", allowed_errors=LOST_SERVER) as page:
        await expect(page.get_by_role("status")).to_have_text("Live: pool:p")
        server.services.create_pool(pool_id="p")
        await expect(page.locator("#events tr")).to_have_count(1)
        server.kill()
        await expect(page.get_by_role("status")).to_contain_text("Disconnected")
        server.services.drain_pool(pool_id="p")
        server.start()
        await expect(page.get_by_role("status")).to_have_text("Live: pool:p")
        await expect(page.locator("#events tr")).to_have_count(2)
        assert [row[0] for row in await rows(page)] == ["pool.drained", "pool.created"]


@pytest.mark.browser
async def test_index_page_escapes_event_data(server: MahavishnuServer, browser: Browser, unique: Unique) -> None:
    workflow_id = unique("wf")
    async with open_page(browser, f"{server.http_url}/#workflow:{workflow_id}") as page:
        await expect(page.get_by_role("status")).to_have_text(f"Live: workflow:{workflow_id}")
        data = '{"prompt": "<img src=x onerror=document.title=\'broken\'>"}'
        assert server.manage("emit_test_event", "workflow.started", "--id", workflow_id, "--data", data).returncode == 0
        await expect(page.locator("#events tr.test")).to_have_count(1)
        assert (await page.title(), await page.locator("img").count()) == ("Mahavishnu", 0)
        assert (await rows(page))[0][:2] == ["workflow.started", workflow_id]
