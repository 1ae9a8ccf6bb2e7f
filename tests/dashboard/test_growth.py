"""The timeline of a run whose plan grows: added stages in their place, and why stages are skipped."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.harness.browser import open_page
from tests.harness.engine import Engine
from tests.harness.engine_fixtures import Files

pytestmark = pytest.mark.browser


async def test_added_stages_come_live_in_their_place(
    engine: Engine, shared_pool: str, browser: Browser, files: Files
) -> None:
    engine.start("agent_loop", pool=shared_pool, workflow_id="page_loop", turns=3, gated_turn=2, **files.params)
    async with open_page(browser, f"{engine.server.http_url}/workflows/page_loop") as page:
        names = page.locator("li.stage-row .what .status")
        await expect(names).to_have_text(["✓ agent_turn", "◐ agent_turn_2", "○ report"])
        files.open_gate()
        await expect(names).to_have_text(["✓ agent_turn", "✓ agent_turn_2", "✓ agent_turn_3", "✓ report"])
        rows = page.locator("li.stage-row")
        await expect(rows.nth(2)).to_contain_text("added by agent_turn_2")
        await expect(rows.locator(".position")).to_have_text(["1", "2", "3", "4"])
        await page.reload()
        await expect(names).to_have_text(["✓ agent_turn", "✓ agent_turn_2", "✓ agent_turn_3", "✓ report"])


async def test_skipped_stages_say_why(engine: Engine, shared_pool: str, browser: Browser) -> None:
    engine.start("branches", pool=shared_pool, workflow_id="page_branches", amount=5)
    async with open_page(browser, f"{engine.server.http_url}/workflows/page_branches") as page:
        await expect(page.locator("li.stage-row", has_text="review")).to_contain_text(
            "skipped: is_large returned a false value"
        )
        await expect(page.locator("li.stage-row", has_text="unneeded")).to_contain_text("skipped: Nothing to do")
        await expect(page.locator(".run-head .status").first).to_contain_text("completed")
