"""The list of pools, and the page of a pool: its charts as a table, its workers, and how it is drained."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.async_api import Browser, expect

from tests.harness.browser import open_page
from tests.harness.server import MahavishnuServer

Unique = Callable[[str], str]

STORE_SAMPLES = """
import time
from datetime import timedelta
from django.utils import timezone
from orchestration.models import POOL_COUNTERS, Pool, PoolSample
Pool.objects.filter(pk=pool_id).update(created_at=timezone.now() - timedelta(hours=1))
now = int(time.time()) // 10 * 10
zero = dict.fromkeys(POOL_COUNTERS, 0)
PoolSample.objects.bulk_create(
    PoolSample(pool_id=pool_id, unix_seconds=now - 60 + 10 * number,
               **{**zero, "queue_size": number, "tasks_completed": 3 * number})
    for number in range(5)
)
"""


@pytest.mark.browser
async def test_list_of_pools_shows_numbers_and_warnings_live(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    pool_id, worker_id, workflow_id = unique("pool"), unique("worker"), unique("wf")
    services = server.services
    async with open_page(browser, f"{server.http_url}/pools") as page:
        await expect(page.get_by_role("heading", name="Pools")).to_be_visible()
        services.create_pool(pool_id=pool_id)
        row = page.locator("table.pools tbody tr").filter(has=page.get_by_role("link", name=pool_id, exact=True))
        await expect(row).to_contain_text("No worker is online")
        services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=["one"], pool_id=pool_id)
        services.start_workflow(workflow_id=workflow_id)
        services.queue_stage(workflow_id=workflow_id, stage_name="one")
        await expect(row).to_contain_text("No worker is online: 1 stage waits")
        services.register_worker(worker_id=worker_id, pool_id=pool_id)
        await expect(row.locator(".worker-counts")).to_have_text("✓ 1 idle")
        await expect(row.locator(".warnings")).to_have_count(0)
        services.hold_unclaimed(pool_id=pool_id, workflow_ids=[workflow_id])
        await expect(row).to_contain_text("1 workflow is held: no worker can take it")
        services.drain_pool(pool_id=pool_id)
        await expect(row.locator(".state")).to_have_text("! draining")
        await row.get_by_role("link", name=pool_id, exact=True).click()
        await expect(page.get_by_role("heading", level=1)).to_contain_text(f"Pool {pool_id}")
        await expect(page.get_by_role("link", name=workflow_id)).to_be_visible()
        await expect(page.locator(".banner")).to_contain_text("1 workflow is held")


@pytest.mark.browser
async def test_pool_is_drained_and_reopened_from_its_page(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    pool_id = unique("pool")
    server.services.create_pool(pool_id=pool_id)
    async with open_page(browser, f"{server.http_url}/pools/{pool_id}") as page:
        status = page.locator(".page-head .status")
        await page.get_by_role("button", name="Drain").click()
        await page.get_by_role("button", name="Keep as it is").click()
        await expect(status).to_have_text("● open")
        await page.get_by_role("button", name="Drain").click()
        await page.get_by_role("button", name="Drain the pool").click()
        await expect(status).to_have_text("! draining")
        await page.get_by_role("button", name="Reopen").click()
        await expect(status).to_have_text("● open")


@pytest.mark.browser
async def test_workers_of_a_pool_are_tiles_and_offline_ones_are_folded(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    pool_id, busy, lost, workflow_id = unique("pool"), unique("worker"), unique("worker"), unique("wf")
    services = server.services
    services.create_pool(pool_id=pool_id)
    for worker_id in (busy, lost):
        services.register_worker(worker_id=worker_id, pool_id=pool_id)
    async with open_page(browser, f"{server.http_url}/pools/{pool_id}") as page:
        await expect(page.locator(".tile:visible")).to_have_count(2)
        services.change_worker_status(worker_id=lost, status="offline")
        await expect(page.locator(".tile:visible")).to_have_count(1)
        await page.get_by_text("1 offline").last.click()
        await expect(page.locator(".offline .tile")).to_contain_text(lost)
        services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=["plan"], pool_id=pool_id)
        services.start_workflow(workflow_id=workflow_id)
        services.start_stage(workflow_id=workflow_id, stage_name="plan", worker_id=busy)
        services.change_worker_status(worker_id=busy, status="busy")
        await page.get_by_role("link", name=busy, exact=True).click()
        await expect(page).to_have_url(re.compile(f"worker={busy}"))
        detail = page.get_by_role("region", name=f"Worker {busy}")
        await expect(detail).to_contain_text("busy")
        await detail.get_by_role("link", name="Close").click()
        await expect(detail).to_have_count(0)


@pytest.mark.browser
async def test_charts_of_a_pool_are_a_table_too(server: MahavishnuServer, browser: Browser, unique: Unique) -> None:
    pool_id = unique("pool")
    server.services.create_pool(pool_id=pool_id)
    server.services_driver.execute(STORE_SAMPLES, pool_id=pool_id)
    async with open_page(browser, f"{server.http_url}/pools/{pool_id}") as page:
        await expect(page.locator(".chart canvas")).to_have_count(3)
        await page.get_by_text("The charts as a table").click()
        rows = page.locator(".chart-table tbody tr")
        stored = rows.filter(has=page.locator("td:first-of-type", has_text=re.compile("^4$")))
        await expect(stored.locator("td")).to_have_text(["4", "18", "0"])
        await page.get_by_role("button", name="6 h").click()
        await expect(page).to_have_url(re.compile(r"\?range=6h$"))
        await expect(page.get_by_role("button", name="6 h")).to_have_attribute("aria-pressed", "true")
