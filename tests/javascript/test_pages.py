"""The JavaScript client in a real browser, and the README's examples for pages."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.async_api import Browser, Page, expect

from tests.harness.browser import LOST_SERVER, open_page
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.javascript.readme import CLIENT_DIR, example

SERVED_PATH = "/static/realtime/clients/1.0.0/mahavishnu.js"

NO_ICON = ("/favicon.ico",)
"""Chromium looks for the icon of a page that names none."""

STALE_WITHIN_SECONDS = 5
"""Without a probe, the client would ping after 10 seconds only."""

Unique = Callable[[str], str]


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves a folder, and logs nothing."""

    def log_message(self, *_: object) -> None:
        pass


@asynccontextmanager
async def page_of_folder(browser: Browser, folder: Path) -> AsyncIterator[Page]:
    """Open `index.html` of a folder, from a web server for that folder alone."""
    web = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    thread = Thread(target=web.serve_forever)
    thread.start()
    try:
        url = f"http://127.0.0.1:{web.server_port}/index.html"
        async with open_page(browser, url, allowed_errors=NO_ICON) as page:
            yield page
    finally:
        web.shutdown()
        thread.join()
        web.server_close()


@pytest.mark.browser
async def test_printed_page_shows_a_run(
    server: MahavishnuServer, browser: Browser, tmp_path: Path, unique: Unique
) -> None:
    workflow_id = unique("wf")
    html = example("page", {"ws://127.0.0.1:8690": server.ws_url, "wf_1": workflow_id})
    (tmp_path / "index.html").write_text(html, encoding="utf-8")
    (tmp_path / "mahavishnu.js").write_bytes((CLIENT_DIR / "mahavishnu.js").read_bytes())
    async with page_of_folder(browser, tmp_path) as page:
        shown = page.locator("#run")
        await expect(shown).to_have_text("There is no such run")
        services = server.services
        services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=["one"])
        await expect(shown).to_have_text("pending: 0 of 1 stages")
        services.start_workflow(workflow_id=workflow_id)
        await expect(shown).to_have_text("running: 0 of 1 stages")


FOLLOW = """async ({ path, url, options, channel }) => {
  const { connect } = await import(path);
  globalThis.client = connect(url, options);
  globalThis.states = [];
  globalThis.names = [];
  const waiting = [];
  const check = () => waiting.forEach(({ condition, resolve }) => condition() && resolve());
  // Playwright's own function for this needs `eval`, which the policy of the page forbids.
  globalThis.until = (condition) => new Promise((resolve) => {
    waiting.push({ condition, resolve });
    check();
  });
  client.onState((state) => check(states.push(state)));
  client.on(channel, (event) => check(names.push(event.name)));
  await client.waitLive();
}"""


async def follow(page: Page, server: MahavishnuServer, channel: str, **options: float) -> None:
    """Subscribe to a channel in a page of the server, whose policy allows only its own modules."""
    arguments = {"path": SERVED_PATH, "url": server.ws_url, "options": options, "channel": channel}
    await page.evaluate(FOLLOW, arguments)


WAKE_UPS = {
    "online": 'dispatchEvent(new Event("online"))',
    "pageshow": 'dispatchEvent(new PageTransitionEvent("pageshow", { persisted: true }))',
    "visible": 'document.dispatchEvent(new Event("visibilitychange"))',
    "resumed": 'document.dispatchEvent(new Event("resume"))',
}


@pytest.mark.browser
async def test_client_probes_a_frozen_server_when_its_page_wakes_up(
    start_server: StartServer, browser: Browser
) -> None:
    server = start_server()
    async with open_page(browser, f"{server.http_url}/health", allowed_errors=(*LOST_SERVER, *NO_ICON)) as page:
        for wake_up in WAKE_UPS.values():
            await follow(page, server, "global", probeWithinMs=200, firstRetryMs=20)
            server.signal(signal.SIGSTOP)
            await page.evaluate(wake_up)
            async with asyncio.timeout(STALE_WITHIN_SECONDS):
                await page.evaluate('until(() => states.includes("stale"))')
            server.signal(signal.SIGCONT)
            await page.evaluate("client.waitLive().then(() => client.close())")


@pytest.mark.browser
async def test_client_misses_nothing_while_its_page_is_frozen(
    server: MahavishnuServer, browser: Browser, unique: Unique
) -> None:
    pool_id = unique("pool")
    async with open_page(browser, f"{server.http_url}/health", allowed_errors=NO_ICON) as page:
        await follow(page, server, f"pool:{pool_id}")
        session = await page.context.new_cdp_session(page)
        await session.send("Page.setWebLifecycleState", {"state": "frozen"})
        server.services.create_pool(pool_id=pool_id)
        server.services.drain_pool(pool_id=pool_id)
        await session.send("Page.setWebLifecycleState", {"state": "active"})
        await page.evaluate("until(() => names.length === 2)")
        assert await page.evaluate("names") == ["pool.created", "pool.drained"]
        await page.evaluate("client.close()")
