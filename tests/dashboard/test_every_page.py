"""Every page in every state, wide and narrow, light and dark: no barrier, nothing cut, no refused resource."""

from __future__ import annotations

import re
import signal
from typing import Final, Literal

import pytest
from playwright.async_api import Browser, Page, expect

from tests.dashboard.connection import expect_pill
from tests.dashboard.reader import SECRETS, log_in_as_reader
from tests.dashboard.stored import STORE_AGENT, STORE_EVERYTHING, STORE_QUESTION
from tests.harness.accessibility import find_barriers
from tests.harness.browser import LOST_SERVER, open_page
from tests.harness.fixtures import StartServer

pytestmark = pytest.mark.browser

# The page, and the text that it shows once it has its data: of everything, and of an empty server.
PAGES: Final = {
    "/": ("No such file", "Nothing has run yet"),
    "/workflows": ("No such file", "Nothing has run yet"),
    "/workflows?status=failed,timeout": ("No such file", "No workflow matches"),
    "/workflows/failed": ("FileNotFoundError: No such file", "There is no such workflow"),
    "/workflows/running#log": ("line 29", "There is no such workflow"),
    "/workflows/completed#data": ("final_output", "There is no such workflow"),
    "/workflows/failed#events": ("workflow created", "There is no such workflow"),
    "/questions": ("Deploy app:7?", "No open questions"),
    "/pools": ("spare", "no pool"),
    "/pools/local": ("local-0", "no such pool"),
    "/events": ("pool local · Measure the files", "No events yet"),
    "/start": ("demo_retry", "demo_retry"),
    "/start/source_report": ("Measure every Python file", "Measure every Python file"),
    "/docs": ("Architecture", "Architecture"),
    "/docs/protocol": ("subscribe", "subscribe"),
    "/api/docs": ("Idempotency-Key", "Idempotency-Key"),
    "/health": ("healthy", "healthy"),
    "/nowhere": ("no page at this address", "no page at this address"),
}
THEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
WIDTHS: Final = (390, 1440)
MISSING_PAGE: Final = ("/nowhere)",)


async def show(page: Page, url: str, text: str) -> None:
    """Open a page, and wait until its main part has a text."""
    await page.goto(url)
    await expect(page.locator("main")).to_contain_text(text, ignore_case=True)


async def faults_of(page: Page, name: str, width: int) -> list[str]:
    """Return what is wrong with a page: barriers, and what is wider than the window."""
    barriers = await find_barriers(page)
    room = await page.evaluate("innerWidth - document.documentElement.scrollWidth")
    return [f"{name}: {rule} {where}" for rule, where in barriers.items()] + [
        f"{name} is {-room} px wider than {width} px" for _ in range(room < 0)
    ]


@pytest.mark.parametrize("is_empty", [False, True], ids=["busy", "empty"])
async def test_no_page_has_a_fault(start_server: StartServer, browser: Browser, is_empty: bool) -> None:
    server = start_server()
    if not is_empty:
        server.services_driver.execute(STORE_EVERYTHING)
        server.services_driver.execute(STORE_QUESTION)
    faults: list[str] = []
    # A page that says the same on an empty server shows nothing that is stored.
    pages = {path: texts[is_empty] for path, texts in PAGES.items() if not is_empty or texts[0] != texts[1]}
    variants = list(zip(WIDTHS, THEMES if is_empty else reversed(THEMES), strict=True))
    async with open_page(browser, "about:blank", allowed_errors=MISSING_PAGE) as page:
        for path, text in pages.items():
            await page.set_viewport_size({"width": WIDTHS[0], "height": 900})
            await show(page, f"{server.http_url}{path}", text)
            for width, theme in variants:
                await page.emulate_media(color_scheme=theme)
                await page.set_viewport_size({"width": width, "height": 900})
                faults += await faults_of(page, f"{path} {theme}", width)
    assert not faults, "\n".join(faults)


async def test_page_of_an_agent_has_no_fault(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    server.services_driver.execute(STORE_AGENT)
    faults: list[str] = []
    async with open_page(browser, f"{server.http_url}/workflows/agent") as page:
        await page.locator("details.stream summary").click()
        await expect(page.get_by_role("log")).to_contain_text("To be continued")
        await page.locator("details.items summary").click()
        await expect(page.locator(".items")).to_contain_text("ValueError: No")
        await expect(page.get_by_role("region", name="Sub-runs of the workflow")).to_contain_text("score")
        await page.get_by_role("button", name="Answer").click()
        await expect(page.locator(".wrong")).to_have_text("✕ A value is required")
        for width, theme in ((width, theme) for width in WIDTHS for theme in THEMES):
            await page.emulate_media(color_scheme=theme)
            await page.set_viewport_size({"width": width, "height": 900})
            faults += await faults_of(page, f"/workflows/agent {theme}", width)
    assert not faults, "\n".join(faults)


async def test_no_page_has_a_fault_while_the_server_is_frozen_or_away(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server()
    server.services_driver.execute(STORE_EVERYTHING)
    server.services_driver.execute(STORE_QUESTION)
    faults: list[str] = []
    live_pages = {path: texts[0] for path, texts in PAGES.items() if not is_document(path)}
    async with open_page(browser, "about:blank", allowed_errors=LOST_SERVER) as first:
        pages = [first, *[await first.context.new_page() for _ in range(len(live_pages) - 1)]]
        await first.clock.install()
        for page, (path, text) in zip(pages, live_pages.items(), strict=True):
            await show(page, f"{server.http_url}{path}", text)
        server.signal(signal.SIGSTOP)
        await first.clock.run_for(16_000)
        for page, path in zip(pages, live_pages, strict=True):
            await page.bring_to_front()
            await expect(page.locator("body")).to_have_attribute("data-connection", re.compile("stale|offline"))
            # What can be started is no state: it does not grow old.
            await expect(page.locator("main .stale").first).to_be_visible(visible=not path.startswith("/start"))
        server.signal(signal.SIGCONT)
        server.kill()
        for page, (path, text) in zip(pages, live_pages.items(), strict=True):
            await page.bring_to_front()
            await expect_pill(page, "offline")
            await page.set_viewport_size({"width": 390, "height": 900})
            faults += await faults_of(page, f"{path} offline", 390)
            await expect(page.locator("main")).to_contain_text(text, ignore_case=True)
    assert not faults, "\n".join(faults)


def is_document(path: str) -> bool:
    """Return whether a page has no connection."""
    return path.startswith(("/docs", "/api", "/health", "/nowhere"))


ALLOW_CHANGES = """
from django.contrib.auth.models import Permission, User
permissions = Permission.objects.filter(codename__in=["view_workflow", "change_workflow"])
User.objects.get(username="reader").user_permissions.add(*permissions)
"""
OPERATIONS: Final = re.compile(r"^(Cancel|Retry|Drain|Reopen|Start|Run a demo|Answer|Send the signal)\b")


@pytest.mark.parametrize("permissions", [[], ["view_workflow", "view_pool", "view_worker", "view_event"]])
async def test_pages_offer_nothing_that_the_user_may_not(
    start_server: StartServer, browser: Browser, permissions: list[str]
) -> None:
    server = start_server(environment=SECRETS)
    server.services_driver.execute(STORE_EVERYTHING)
    server.services_driver.execute(STORE_QUESTION)
    faults: list[str] = []
    async with open_page(browser, "about:blank") as page:
        await log_in_as_reader(server, page, permissions)
        for path, texts in PAGES.items():
            if is_document(path):
                continue
            await page.goto(f"{server.http_url}{path}")
            expected = texts[0] if permissions else "Choose a channel" if path == "/events" else "permission"
            await expect(page.locator("main")).to_contain_text(expected, ignore_case=True)
            offered = page.locator("main").get_by_role("button", name=OPERATIONS)
            assert await offered.count() == 0, path
            faults += await faults_of(page, path, 1280)
        # The names are those of the buttons: a user who may change workflows sees them.
        server.services_driver.execute(ALLOW_CHANGES)
        await page.goto(f"{server.http_url}/workflows/failed")
        await expect(page.locator("main").get_by_role("button", name=OPERATIONS).first).to_be_visible()
    assert not faults, "\n".join(faults)
