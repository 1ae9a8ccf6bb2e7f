"""The dashboard without a mouse: find the failed run, read its error, retry it."""

from __future__ import annotations

import pytest
from playwright.async_api import Browser, expect

from tests.dashboard.stored import STORE_EVERYTHING
from tests.harness.browser import open_page
from tests.harness.fixtures import StartServer

pytestmark = pytest.mark.browser


async def test_failed_workflow_is_found_read_and_retried_with_keys_alone(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server()
    server.services_driver.execute(STORE_EVERYTHING)
    async with open_page(browser, f"{server.http_url}/") as page:
        await expect(page.get_by_text("No such file").first).to_be_visible()
        keys = page.keyboard
        await keys.press("g")
        await keys.press("w")
        await expect(page.get_by_role("heading", level=1)).to_have_text("Workflows")
        await expect(page.locator("main [data-row]").first).to_be_visible()
        await keys.press("/")
        await expect(page.get_by_role("searchbox")).to_be_focused()
        await keys.type("failed")
        await expect(page).to_have_url(f"{server.http_url}/workflows?q=failed")
        await expect(page.locator("main [data-row]")).to_have_count(1)
        await keys.press("Escape")
        await keys.press("j")
        await expect(page.get_by_role("link", name="demo_failure failed")).to_be_focused()
        await keys.press("Enter")
        error = page.get_by_role("region", name="Error")
        await expect(error).to_contain_text("read_missing_file: FileNotFoundError: No such file: 'x'")
        await expect(error.locator("pre")).to_contain_text("in f")
        await keys.press("r")
        dialog = page.get_by_role("dialog", name="Retry demo_failure?")
        await expect(dialog).to_contain_text("2 stages run again. The results of 1 completed stage are kept.")
        # Enter alone changes nothing: the first button keeps everything as it is.
        await expect(dialog.get_by_role("button", name="Keep as it is")).to_be_focused()
        await keys.press("Tab")
        await keys.press("Enter")
        await expect(dialog).to_have_count(0)
        await expect(page.locator(".run-head .status").first).to_contain_text("running")
        await expect(error).to_have_count(0)
        await keys.press("?")
        await expect(page.get_by_role("dialog", name="Keys")).to_contain_text("Next and previous row")
        await keys.press("Escape")
        await expect(page.get_by_role("dialog")).to_have_count(0)
