"""A page that is open when the login of its user ends."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import Browser, expect

from tests.dashboard.connection import expect_pill
from tests.dashboard.reader import SECRETS, log_in_as_reader
from tests.dashboard.stored import STORE_EVERYTHING
from tests.harness.browser import open_page
from tests.harness.fixtures import StartServer

pytestmark = pytest.mark.browser

END_LOGINS = """
from django.contrib.sessions.models import Session
Session.objects.all().delete()
"""


async def test_page_whose_login_has_ended_leads_to_the_login_and_back(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server(environment=SECRETS)
    server.services_driver.execute(STORE_EVERYTHING)
    async with open_page(browser, "about:blank") as page:
        await log_in_as_reader(server, page, ["view_workflow", "view_event"])
        await page.goto(f"{server.http_url}/workflows")
        await page.locator('a[href="/workflows/failed"]').click()
        await page.get_by_role("link", name="Data").click()
        await expect_pill(page, "live")
        server.services_driver.execute(END_LOGINS)
        await expect_pill(page, "closed", "Your login has ended")
        await expect(page.get_by_role("heading", name="Your login has ended")).to_be_visible()
        login = re.compile(r"/login\?next=%2Fworkflows%2Ffailed%23data$")
        await expect(page.get_by_role("link", name="Log in again")).to_have_attribute("href", login)
        await page.go_back()
        await page.go_back()
        await expect(page).to_have_url(f"{server.http_url}/login?next=/workflows")
