"""A stage that runs once for each value of a list, on the page of its workflow: one row, and a list of the items."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.async_api import Browser, expect

from tests.harness.accessibility import find_barriers
from tests.harness.browser import open_page
from tests.harness.engine import Engine
from tests.harness.engine_fixtures import FAST_POLLING, JOBS, Files
from tests.harness.fixtures import StartServer
from tests.harness.waiting import eventually

pytestmark = pytest.mark.browser

PAGE_ROWS = 50
"""As in `stage_items.js`."""

ATTEMPTS = """
from orchestration.models import Stage
items = Stage.objects.filter(workflow_id="page_again", item_of__isnull=False).order_by("item_index")
result = list(items.values_list("attempt", flat=True))
"""


@pytest.fixture
def engine(start_server: StartServer) -> Iterator[Engine]:
    """Start an engine that publishes progress at its usual pace."""
    environment = {
        name: value for name, value in FAST_POLLING.items() if name != "MAHAVISHNU_PROGRESS_INTERVAL_SECONDS"
    }
    engine = Engine(start_server(environment={**JOBS, **environment}))
    engine.scheduler()
    engine.worker(pool_id="items")
    yield engine
    engine.close()


async def test_items_are_one_row_with_counts_and_a_list_in_pages(
    engine: Engine, browser: Browser, files: Files
) -> None:
    count, gated = 120, 70
    params = {**files.params, "broken": [3, 5], "allow_failed": 5, "gated_item": gated}
    engine.start("mapped", pool="items", workflow_id="page_map", count=count, limit=1, **params)
    async with open_page(browser, f"{engine.server.http_url}/workflows/page_map") as page:
        await expect(page.locator("ol > li.stage-row")).to_have_count(3)
        row = page.locator("li.stage-row", has_text="double")
        progress = row.locator(".items-progress")
        await expect(progress).to_contain_text(f"{gated - 2} of {count} completed")
        await expect(progress).to_contain_text("2 failed")
        await expect(progress).to_contain_text("1 running")
        await row.get_by_text("Items", exact=True).click()
        items = row.locator("tbody tr")
        await expect(items).to_have_count(PAGE_ROWS)
        await expect(items.nth(3)).to_contain_text("ValueError: No 3")
        assert await find_barriers(page) == {}
        await row.get_by_role("button", name="Later items").click()
        await expect(items.first).to_contain_text("double[50]")
        await expect(items.nth(gated - PAGE_ROWS)).to_contain_text("◐")
        # What is shown changes as its items do.
        files.open_gate()
        await expect(items.locator(".status.success")).to_have_count(PAGE_ROWS)
        await row.get_by_role("button", name="Later items").click()
        await expect(items).to_have_count(count - 2 * PAGE_ROWS)
        await expect(row.get_by_role("button", name="Later items")).to_be_disabled()
        await row.get_by_role("button", name="Failed").click()
        await expect(items.locator(".status")).to_have_text(["✕ double[3]", "✕ double[5]"])
        await expect(progress).to_contain_text(f"{count - 2} of {count} completed")


async def test_failed_items_are_repeated_alone(engine: Engine, browser: Browser) -> None:
    engine.start("mapped", pool="items", workflow_id="page_again", count=3, broken=[1], allow_failed=1)
    async with open_page(browser, f"{engine.server.http_url}/workflows/page_again") as page:
        await expect(page.locator(".run-head")).to_contain_text("3 of 3 stages")
        for name, is_map in (("total", False), ("double", True)):
            await page.get_by_text("Retry from …").click()
            await page.get_by_role("button", name=name, exact=True).click()
            dialog = page.get_by_role("dialog", name=f"Retry from {name}?")
            only_failed = dialog.get_by_label("Only the 1 of 3 items that did not complete")
            await expect(only_failed).to_have_count(int(is_map))
            if not is_map:
                await dialog.get_by_role("button", name="Keep as it is").click()
        await only_failed.check()
        assert await find_barriers(page) == {}
        await dialog.get_by_role("button", name="Retry from this stage").click()
        await page.goto(f"{page.url}#events")
        await eventually(lambda: engine.execute(ATTEMPTS) == [1, 2, 1], what="the failed item runs again")
        await expect(page.get_by_text("from double · only its failed items · 2 stages again")).to_be_visible()
