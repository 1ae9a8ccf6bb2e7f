"""Pages that stay open while a simulation changes 20 things per second: what their memory grows by.

*Heap MB*, *nodes* and *listeners* are those of a page after a garbage collection; *server MB* is the resident memory of
the server. There is a row for each page at the beginning, at the end, and ten times between.
`MAHAVISHNU_BENCHMARK_SECONDS` sets for how long: 300, and 28800 for a working day.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Final

import psutil
from playwright.async_api import Browser, Page, async_playwright

from benchmarks.contestants import Ours, ours
from benchmarks.pages import SECONDS, heap_bytes
from benchmarks.report import Report
from tests.harness.browser import CHROMIUM_ARGUMENTS
from tests.harness.chromium import MISSING, find_chromium

CHANGES_PER_SECOND: Final = 20
SAMPLES: Final = 11
PAGES: Final = ("/", "/workflows", "/pools", "/pools/sim_pool_1", "/events")


def run(report: Report, *, rounds: int) -> None:
    """Open all pages at once, and sample them. There is one round."""
    del rounds
    with ours() as server:
        asyncio.run(_soak(report, server))


async def _soak(report: Report, server: Ours) -> None:
    path = find_chromium()
    if path is None:
        raise SystemExit(MISSING)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        simulation = await asyncio.create_subprocess_exec(
            *(sys.executable, "manage.py", "simulate", "--seed", "1"),
            *("--rate", str(CHANGES_PER_SECOND), "--duration", str(SECONDS)),
            env=server.server.environment,
            stdout=asyncio.subprocess.DEVNULL,
        )
        pages = [await _open(browser, server, page_path) for page_path in PAGES]
        begun = time.monotonic()
        for sample in range(SAMPLES):
            await asyncio.sleep(max(0.0, begun + SECONDS * sample / (SAMPLES - 1) - time.monotonic()))
            for page_path, page in zip(PAGES, pages, strict=True):
                report.add(
                    seconds=round(time.monotonic() - begun),
                    page=page_path,
                    **await _memory(page),
                    server_mb=psutil.Process(server.pid).memory_info().rss / 1e6,
                )
        assert await simulation.wait() == 0
        await browser.close()


async def _open(browser: Browser, server: Ours, path: str) -> Page:
    context = await browser.new_context(viewport={"width": 1440, "height": 900})
    page = await context.new_page()
    await page.goto(f"http://127.0.0.1:{server.port}{path}")
    await page.locator(".pill-live").wait_for()
    return page


async def _memory(page: Page) -> dict[str, float]:
    heap_mb = await heap_bytes(page) / 1e6
    session = await page.context.new_cdp_session(page)
    counters = await session.send("Memory.getDOMCounters")
    await session.detach()
    return {
        "heap_mb": heap_mb,
        "nodes": counters["nodes"],
        "listeners": counters["jsEventListeners"],
    }
