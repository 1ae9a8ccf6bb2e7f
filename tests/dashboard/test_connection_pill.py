"""The connection pill against a server that is frozen, killed, replaced, or without Redis: it never shows too much."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from playwright.async_api import Browser, Page, expect

from tests.dashboard.connection import expect_pill, kinds_of, record_kinds
from tests.harness.browser import LOST_SERVER, open_page
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

pytestmark = pytest.mark.browser

MAX_STEPS = 1000
MISSED_EVENTS = 5000
IS_WHOLE = "element => element.scrollWidth <= element.clientWidth"


@asynccontextmanager
async def live_page(browser: Browser, server: MahavishnuServer, path: str = "/workflows") -> AsyncIterator[Page]:
    """Open a page whose clock the test may move, once it is live."""
    async with open_page(browser, "about:blank", allowed_errors=LOST_SERVER) as page:
        await record_kinds(page.context)
        await page.clock.install()
        await page.goto(f"{server.http_url}{path}")
        await expect_pill(page, "live")
        await expect(page.get_by_text("Nothing has run yet")).to_be_visible()
        yield page


async def run_clock_until(page: Page, is_reached: Callable[[], Awaitable[bool]], *, step_ms: int) -> None:
    """Move the stopped clock of a page by small steps until something is reached."""
    for _ in range(MAX_STEPS):
        if await is_reached():
            return
        await page.clock.run_for(step_ms)
    raise AssertionError(f"Not reached after {MAX_STEPS} steps of {step_ms} ms")


async def test_pill_shows_how_long_a_live_server_had_nothing_to_say(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server()
    async with live_page(browser, server) as page:
        # There was no event yet: the silence counts from when the page became live.
        await page.clock.fast_forward("02:00")
        await expect_pill(page, "quiet", "nothing for 2 min")
        await expect(page.locator(".pill > span").first).to_have_text(re.compile(r", since \d\d:\d\d:\d\d$"))
        server.services.create_workflow(workflow_id="first", adapter="python", prompt="", stages=["one"])
        await expect_pill(page, "live")
        await page.clock.fast_forward("03:00")
        await expect_pill(page, "quiet", "nothing for 3 min")
        server.services.create_pool(pool_id="pool")
        await expect_pill(page, "live")


async def test_pill_counts_from_which_moment_a_frozen_server_is_stale(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server()
    async with live_page(browser, server) as page:
        await expect(page.locator("body")).to_have_attribute("data-connection", "live")
        server.signal(signal.SIGSTOP)
        try:
            await page.clock.run_for(16_000)
            await expect_pill(page, "stale", "No answer for")
            await expect(page.locator(".pill > span").first).to_contain_text("as of")
        finally:
            server.signal(signal.SIGCONT)
        await expect_pill(page, "live")
        assert "stale" in await kinds_of(page)


async def test_pill_says_since_when_there_is_no_server_and_what_was_caught_up(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server()
    async with live_page(browser, server) as page:
        server.kill()
        await expect_pill(page, "offline", "Offline since")
        await expect(page).to_have_title("Offline · Workflows · Mahavishnu")
        for number in range(3):
            server.services.create_pool(pool_id=f"pool-{number}")
        server.start()
        await expect_pill(page, "back", "Back. 3 events caught up, none missed.")
        await expect_pill(page, "live")
        await expect(page).to_have_title("Workflows · Mahavishnu")


async def test_phone_shows_the_whole_state_of_the_connection(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    async with live_page(browser, server) as page:
        await page.set_viewport_size({"width": 390, "height": 800})
        text = page.locator(".pill > span").first
        await page.clock.fast_forward("25:00")
        await expect_pill(page, "quiet")
        assert await text.evaluate(IS_WHOLE)
        server.kill()
        await expect_pill(page, "offline", "Offline since")
        assert await text.evaluate(IS_WHOLE)


async def test_pill_counts_while_a_page_catches_up(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    async with live_page(browser, server) as page:
        server.kill()
        await expect_pill(page, "offline")
        lines = "".join(
            f'{{"event": "pool.created", "data": {{"pool_id": "pool-{number}"}}}}\n' for number in range(MISSED_EVENTS)
        )
        assert server.manage("emit_test_event", "--stdin", input=lines).returncode == 0
        server.start()
        await expect_pill(page, "back", f"Back. {MISSED_EVENTS:,} events caught up, none missed.")
        assert "catching-up" in await kinds_of(page)


async def test_now_connects_without_the_wait(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    async with live_page(browser, server) as page:
        await page.evaluate("Math.random = () => 0.99")
        await page.clock.pause_at(await page.evaluate("Date.now() + 1000"))
        server.kill()
        # Each attempt fails by itself; only the pause between two of them takes time of this clock.
        await run_clock_until(page, lambda: page.get_by_text("again in 5 s").is_visible(), step_ms=100)
        server.start()
        await page.get_by_role("button", name="Now").press("Enter")
        before = await page.evaluate("Date.now()")
        await run_clock_until(page, lambda: page.locator('body[data-connection="live"]').is_visible(), step_ms=20)
        assert await page.evaluate("Date.now()") - before < 4_000


async def test_pill_announces_a_restart(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    async with live_page(browser, server) as page:
        server.terminate()
        server.start()
        await expect_pill(page, "live")
        assert "restarting" in await kinds_of(page)


async def test_pill_shows_that_events_are_late_without_redis(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    async with live_page(browser, server) as page:
        server.valkey.kill()
        await page.clock.run_for(11_000)
        await expect_pill(page, "degraded", "up to 0.5 s late (Redis is down)")
        server.valkey.start()
        await page.clock.run_for(11_000)
        await expect_pill(page, "live")


async def test_pill_says_that_history_was_lost_if_the_log_was_replaced(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server()
    async with live_page(browser, server) as page:
        server.kill()
        await expect_pill(page, "offline")
        assert server.manage("renew_epoch").returncode == 0
        server.start()
        await expect_pill(page, "back", "Some history was lost; the state was read anew.")
        await expect_pill(page, "live")


async def test_pill_shows_what_is_caught_up_after_a_sleep(start_server: StartServer, browser: Browser) -> None:
    server = start_server()
    async with live_page(browser, server) as page:
        session = await page.context.new_cdp_session(page)
        await session.send("Page.setWebLifecycleState", {"state": "frozen"})
        server.kill()
        server.services.create_pool(pool_id="slept")
        server.start()
        await session.send("Page.setWebLifecycleState", {"state": "active"})
        await expect_pill(page, "back", "none missed")
        await expect_pill(page, "live")
        assert server.is_alive()
