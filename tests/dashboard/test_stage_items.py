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

pytestmark = pytest.mark.browser

PAGE_ROWS = 50
"""As in `stage_items.js`."""


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
