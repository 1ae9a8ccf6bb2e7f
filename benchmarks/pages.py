"""Pages in Chromium: the first paint with data, frames while events come, memory that stays, and bytes of scripts.

*First ms* and *again ms* are the times from the start of a navigation to the frame after the first row is in the
document, with an empty and with a filled cache, on a server with 100,000 stored workflows. *p95 ms* and *p99 ms* are
the times between two frames, while the server sends a number of events per second;
*grown MB* is what the heap has more at the end, after a garbage collection. *Script KB* is what a page loads of
JavaScript, compressed. `MAHAVISHNU_BENCHMARK_SECONDS` sets for how long events come: 300.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any, Final

from playwright.async_api import Browser, Page, async_playwright

from benchmarks.contestants import Ours, ours
from benchmarks.growth import FILL
from benchmarks.report import Report, by_figure, percentile
from tests.harness.browser import CHROMIUM_ARGUMENTS
from tests.harness.chromium import MISSING, find_chromium

STORED_WORKFLOWS: Final = 100_000
STORED_EVENTS: Final = 100_000
EVENTS_PER_SECOND: Final = 1000
MAX_CALL_SECONDS: Final = 100
"""The driver waits for an answer no longer than `ANSWER_TIMEOUT_SECONDS`."""
SECONDS: Final = int(os.environ.get("MAHAVISHNU_BENCHMARK_SECONDS", "300"))

# The page, and what is there once it shows data.
PAGES: Final = {
    "/": "main a.run-link",
    "/workflows": "main a.run-link",
    "/workflows/old_7": ".stage-row .took",
    "/pools": "main a[href$='pools/local']",
    "/events": "main table tbody tr",
}
WATCHED: Final = ("/", "/workflows", "/events")

_FIRST_ROW = """
selector => new Promise(resolve => {
  const done = () => requestAnimationFrame(() => setTimeout(() => resolve(performance.now())));
  if (document.querySelector(selector)) return done();
  const observer = new MutationObserver(() => {
    if (document.querySelector(selector)) { observer.disconnect(); done(); }
  });
  observer.observe(document, { childList: true, subtree: true });
})
"""
_RECORD_FRAMES = """
() => {
  const frames = globalThis.frameTimesMs = [];
  let last = performance.now();
  const next = now => { frames.push(now - last); last = now; requestAnimationFrame(next); };
  requestAnimationFrame(next);
}
"""
_EMIT = """
import time
from datetime import datetime, timezone
from django.db import transaction
from realtime.events.receivers import announce_as_given
begun = time.monotonic()
sent = 0
total = per_second * seconds
while sent < total:
    due = min(int((time.monotonic() - begun) * per_second), total)
    if due < min(sent + per_second // 20, total):
        time.sleep(0.01)
        continue
    with transaction.atomic():
        for number in range(sent, due):
            id = f"old_{90000 + number % 10000}"
            if number % 2:
                name, data = "workflow.stage_completed", {"stage_name": "a", "duration_ms": 5, "stages_completed": 1}
            else:
                name, data = "workflow.stage_started", {"stage_name": "a", "worker_id": None, "attempt": 1}
            data = {"workflow_id": id, **data}
            announce_as_given(name, data=data, rooms=(f"workflow:{id}",), timestamp=datetime.now(timezone.utc))
    sent = due
result = time.monotonic() - begun
"""
_POOL = """
from orchestration import services
services.create_pool(pool_id="local")
services.register_worker(worker_id="worker_1", pool_id="local")
for n in range(3):
    run = services.create_workflow(adapter="python", prompt="x", stages=["a", "b"], pool_id="local", name="busy")
    services.start_workflow(workflow_id=run.pk)
"""


def run(report: Report, *, rounds: int) -> None:
    """Fill one server, then open each page `rounds` times, then watch some while events come."""
    with ours(MAHAVISHNU_MAX_LOG_EVENTS="10000000") as server:
        driver = server.driver
        driver.execute(_POOL)
        driver.execute(FILL, stored_workflows=0, workflows=STORED_WORKFLOWS, stored_events=0, events=STORED_EVENTS)
        asyncio.run(_measure(report, server, rounds))


async def _measure(report: Report, server: Ours, rounds: int) -> None:
    path = find_chromium()
    if path is None:
        raise SystemExit(MISSING)
    async with async_playwright() as playwright:
        arguments = [*CHROMIUM_ARGUMENTS, "--enable-precise-memory-info"]
        browser = await playwright.chromium.launch(executable_path=path, args=arguments)
        for page_path, selector in PAGES.items():
            measured = [await _first_paint(browser, server, page_path, selector) for _ in range(rounds)]
            report.add(page=page_path, **by_figure(measured))
        for page_path in WATCHED:
            report.add(page=page_path, **await _watch(browser, server, page_path))
        await browser.close()


async def _first_paint(browser: Browser, server: Ours, path: str, selector: str) -> dict[str, float]:
    async with await browser.new_context(viewport={"width": 1440, "height": 900}) as context:
        await context.add_init_script(f"globalThis.firstRow = ({_FIRST_ROW})({selector!r})")
        page = await context.new_page()
        script_bytes: list[int] = []

        async def on_finished(request: Any) -> None:
            if request.resource_type == "script":
                script_bytes.append((await request.sizes())["responseBodySize"])

        page.on("requestfinished", on_finished)
        url = f"http://127.0.0.1:{server.port}{path}"
        await page.goto(url)
        first_ms = await page.evaluate("globalThis.firstRow")
        await page.wait_for_load_state("networkidle")
        await page.goto(url)
        again_ms = await page.evaluate("globalThis.firstRow")
        return {"first_ms": first_ms, "again_ms": again_ms, "script_kb": sum(script_bytes) / 1000}


async def _watch(browser: Browser, server: Ours, path: str) -> dict[str, Any]:
    async with await browser.new_context(viewport={"width": 1440, "height": 900}) as context:
        page = await context.new_page()
        await page.goto(f"http://127.0.0.1:{server.port}{path}")
        await page.locator(".pill-live").wait_for()
        # Tables fill, code is compiled.
        await _emit(server, seconds=10)
        heap_before = await heap_bytes(page)
        await page.evaluate(_RECORD_FRAMES)
        taken = await _emit(server, seconds=SECONDS)
        frames: list[float] = await page.evaluate("globalThis.frameTimesMs.splice(0)")
        grown = await heap_bytes(page) - heap_before
        return {
            "events_per_second": EVENTS_PER_SECOND * SECONDS / taken,
            "seconds": taken,
            "p50_ms": percentile(frames, 50),
            "p95_ms": percentile(frames, 95),
            "p99_ms": percentile(frames, 99),
            "grown_mb": grown / 1e6,
        }


async def _emit(server: Ours, *, seconds: int) -> float:
    """Send events for a time, and return how long that took, in seconds."""
    taken = 0.0
    for begin in range(0, seconds, MAX_CALL_SECONDS):
        part = min(MAX_CALL_SECONDS, seconds - begin)
        taken += await asyncio.to_thread(server.driver.execute, _EMIT, per_second=EVENTS_PER_SECOND, seconds=part)
    return taken


async def heap_bytes(page: Page) -> float:
    """Return the size of the heap of a page after a garbage collection."""
    session = await page.context.new_cdp_session(page)
    await session.send("HeapProfiler.collectGarbage")
    usage = await session.send("Runtime.getHeapUsage")
    await session.detach()
    return float(usage["usedSize"])
