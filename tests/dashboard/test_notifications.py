"""How a hidden page reports failures: in the title of its tab, and by notifications of the desktop."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from playwright.async_api import Browser, expect

from tests.harness.browser import open_page
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

pytestmark = pytest.mark.browser

SET_HIDDEN: Final = """isHidden => {
    Object.defineProperty(document, "hidden", {configurable: true, value: isHidden});
    document.dispatchEvent(new Event("visibilitychange"));
}"""
"""A Chromium without a window never hides a page by itself."""

RECORD_NOTIFICATIONS: Final = """
window.shown = [];
window.Notification = class extends Notification {
    constructor(title, options) {
        super(title, options);
        window.shown.push([title, options.body]);
        window.lastShown = this;
    }
};
"""


def fail(server: MahavishnuServer, workflow_id: str) -> None:
    server.services.create_workflow(workflow_id=workflow_id, name="", adapter="python", prompt="", stages=["one"])
    server.services.fail_workflow(workflow_id=workflow_id, error="OSError: no space\nat line 1")


async def test_failures_are_counted_in_the_title_until_the_page_is_looked_at(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server()
    async with open_page(browser, f"{server.http_url}/") as page:
        await expect(page.get_by_role("heading", name="Nothing has run yet")).to_be_visible()
        await page.evaluate(SET_HIDDEN, True)
        for workflow_id in ("wf_1", "wf_2"):
            fail(server, workflow_id)
        await expect(page).to_have_title("2 failed · Overview · Mahavishnu")
        assert "circle" in await page.locator("link[rel=icon]").evaluate("link => decodeURIComponent(link.href)")
        await page.evaluate(SET_HIDDEN, False)
        await expect(page).to_have_title("Overview · Mahavishnu")


async def test_desktop_is_notified_of_failures_on_request(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    fail(server, "wf_0")
    async with open_page(browser, "about:blank") as page:
        await page.context.grant_permissions(["notifications"])
        await page.add_init_script(RECORD_NOTIFICATIONS)
        await page.clock.install()
        await page.goto(f"{server.http_url}/")
        await page.get_by_role("button", name="Notify me of failures").click()
        fail(server, "wf_1")
        await expect(page.locator("table.failures")).to_contain_text("wf_1")
        await page.evaluate(SET_HIDDEN, True)
        for number in (2, 3, 4):
            fail(server, f"wf_{number}")
        await expect(page).to_have_title("3 failed · Overview · Mahavishnu")
        assert await page.evaluate("window.shown") == [["wf_2 failed", "OSError: no space"]]
        await page.clock.run_for(10_000)
        assert (await page.evaluate("window.shown"))[1:] == [["2 workflows failed", "OSError: no space"]]
        await page.evaluate("window.lastShown.onclick()")
        await expect(page).to_have_url(f"{server.http_url}/workflows?status=failed%2Ctimeout&ended=24h")
        await page.get_by_role("link", name="Overview").click()
        await page.get_by_role("button", name="Stop notifying me").click()
        await page.reload()
        await expect(page.get_by_role("button", name="Notify me of failures")).to_be_visible()


async def test_page_says_that_the_browser_allows_no_notifications(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    fail(server, "wf_1")
    async with open_page(browser, f"{server.http_url}/") as page:
        await page.get_by_role("button", name="Notify me of failures").click()
        await expect(page.get_by_text("The browser does not allow notifications")).to_be_visible()


async def test_row_flashes_when_its_status_changes(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    server.services.create_workflow(workflow_id="wf_1", name="", adapter="python", prompt="", stages=["one"])
    async with open_page(browser, "about:blank") as page:
        # While the clock stands still, a flash does not end.
        at = datetime.now(tz=UTC)
        await page.clock.set_fixed_time(at)
        await page.goto(f"{server.http_url}/workflows")
        row = page.locator("tbody tr")
        await expect(row).to_contain_text("pending")
        await expect(row).to_have_class("")
        server.services.start_workflow(workflow_id="wf_1")
        await expect(row).to_have_class("flash")
        await page.clock.set_fixed_time(at + timedelta(seconds=1))
        await expect(row).to_have_class("")
