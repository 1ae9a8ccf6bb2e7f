"""Links between pages, which keep the document and its connection."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.harness.browser import open_page
from tests.harness.server import MahavishnuServer


@pytest.mark.browser
async def test_links_and_the_back_button_show_another_page_in_the_same_document(
    server: MahavishnuServer, browser: Browser
) -> None:
    async with open_page(browser, f"{server.http_url}/workflows") as page:
        heading = page.get_by_role("heading", level=1)
        await expect(heading).to_have_text("Workflows")
        await page.evaluate("globalThis.isSameDocument = true")
        await page.get_by_role("link", name="Pools").click()
        await expect(heading).to_have_text("Pools", ignore_case=True)
        await page.go_back()
        await expect(heading).to_have_text("Workflows")
        assert await page.evaluate("isSameDocument") is True
