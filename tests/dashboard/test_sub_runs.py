"""The tree of runs, on the pages of its runs: the sub-runs with their statuses, and the way up."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.harness.accessibility import find_barriers
from tests.harness.browser import open_page
from tests.harness.engine import Engine
from tests.harness.engine_fixtures import Files

pytestmark = pytest.mark.browser

MAX_ROWS = 20
"""As in `sub_runs.js`."""

TREE = """
from orchestration.models import Workflow
result = list(Workflow.objects.filter(root="page_deep").order_by("depth").values_list("pk", flat=True))
"""


async def test_page_lists_the_sub_runs_as_they_begin_and_end(
    engine: Engine, shared_pool: str, browser: Browser, files: Files
) -> None:
    count = MAX_ROWS + 2
    params = {**files.params, "child_pool": shared_pool}
    engine.start("fans", pool=shared_pool, workflow_id="page_fans", count=count, **params)
    url = f"{engine.server.http_url}/workflows/page_fans"
    async with open_page(browser, url) as page:
        table = page.get_by_role("region", name="Sub-runs of the workflow")
        await expect(page.locator("li.stage-row").first).to_contain_text(f"waits for {count} sub-runs")
        await expect(table.locator("tbody tr")).to_have_count(MAX_ROWS)
        await expect(page.get_by_role("heading", name=f"{count} sub-runs")).to_contain_text(f"{count} running")
        assert await find_barriers(page) == {}
        await page.get_by_role("link", name="All sub-runs").click()
        await expect(page).to_have_url(f"{engine.server.http_url}/workflows?parent=page_fans")
        await expect(page.locator("main [data-row]")).to_have_count(count)
        await page.go_back()
        files.open_gate()
        await expect(table.locator(".status", has_text="completed")).to_have_count(MAX_ROWS)
        await expect(page.get_by_role("heading", name=f"{count} sub-runs")).to_contain_text(f"{count} completed")
        await expect(page.locator(".run-head .status").first).to_contain_text("completed")


async def test_pages_of_sub_runs_lead_upwards(engine: Engine, shared_pool: str, browser: Browser, files: Files) -> None:
    params = {**files.params, "child_pool": shared_pool}
    files.open_gate()
    engine.start("deep_wait", pool=shared_pool, workflow_id="page_deep", levels=1, **params)
    async with open_page(browser, f"{engine.server.http_url}/workflows/page_deep") as page:
        await expect(page.locator(".run-head .status").first).to_contain_text("completed")
        child, grandchild = engine.execute(TREE)
        await page.goto(f"{engine.server.http_url}/workflows/{grandchild}")
        facts = page.locator(".run-head .facts")
        await expect(facts).to_contain_text(f"sub-run of {child[-6:]}")
        await facts.get_by_role("link", name="page_deep").click()
        await expect(page.locator("h1")).to_contain_text("page_deep")
        await page.go_back()
        await facts.get_by_role("link", name=child[-6:]).click()
        await expect(facts).to_contain_text("sub-run of page_deep")
        await expect(facts).not_to_contain_text("of the tree of")
