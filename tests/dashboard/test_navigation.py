"""Links between pages, which keep the document and its connection."""

from __future__ import annotations

import re
import urllib.request
from urllib.parse import unquote

import pytest
from django.urls import Resolver404, resolve
from playwright.async_api import Browser, expect

from dashboard.modules import page_modules
from tests.harness.browser import open_page
from tests.harness.server import MahavishnuServer


@pytest.mark.browser
async def test_links_and_the_back_button_show_another_page_in_the_same_document(
    server: MahavishnuServer, browser: Browser
) -> None:
    async with open_page(browser, f"{server.http_url}/workflows") as page:
        heading = page.get_by_role("heading", level=1)
        await expect(heading).to_have_text("Workflows")
        await page.evaluate("globalThis.isSameDocument = true")
        await page.get_by_role("link", name="Pools").click()
        await expect(heading).to_have_text("Pools", ignore_case=True)
        await page.go_back()
        await expect(heading).to_have_text("Workflows")
        assert await page.evaluate("isSameDocument") is True


PAGES_OF = """async paths => {
  const { parseRoute } = await import(document.querySelector("link[href*='/routes.']").href);
  return paths.map(path => parseRoute(new URL(path, location)).page);
}"""


@pytest.mark.browser
async def test_shell_and_scripts_know_the_same_paths(server: MahavishnuServer, browser: Browser) -> None:
    """A path that only one of both knows would be a page without content, or a link that loads the document anew."""
    paths = {
        "/": "overview",
        "/workflows": "workflows",
        "/workflows/wf_1.a-B": "workflow",
        f"/workflows/{'i' * 128}": "workflow",
        f"/workflows/{'i' * 129}": "missing",
        "/workflows/": "missing",
        "/questions": "questions",
        "/questions/1": "missing",
        "/pools": "pools",
        "/pools/local": "pool",
        "/events": "events",
        "/start": "start",
        "/start/my%20workflow": "start",
        "/docs": "missing",
        "/nowhere": "missing",
    }
    async with open_page(browser, server.http_url) as opened:
        assert dict(zip(paths, await opened.evaluate(PAGES_OF, list(paths)), strict=True)) == paths
    for path, page in paths.items():
        if page != "missing":
            assert resolve(unquote(path)).kwargs["module"] == page
        elif not path.startswith("/docs"):
            with pytest.raises(Resolver404):
                resolve(path)


def test_page_names_every_module_that_it_imports() -> None:
    modules = page_modules("pool")
    assert modules[0] == "dashboard/connection.js"
    assert {"dashboard/main.js", "dashboard/pages/pool.js", "dashboard/vendor/lit-html/directive.js"} < set(modules)
    assert not {"dashboard/pages/events.js", "dashboard/vendor/uplot/uplot.js"} & set(modules)
    assert len(set(modules)) == len(modules)


@pytest.mark.parametrize(
    "path", ["/", "/workflows", "/workflows/wf_1", "/questions", "/pools/local", "/events", "/start"]
)
def test_scripts_of_a_page_are_small(server: MahavishnuServer, path: str) -> None:
    """What a page needs, with the chart library that only the page of a pool imports, fits in 90 KB compressed."""
    scripts = re.findall(r'modulepreload" href="([^"]+)"', read(server, path).decode())
    # The page of a pool loads the charts when it is opened.
    for pattern in (rb'import\("\./(chart_library\.[^"]+)"\)', rb'from "\./(vendor/uplot/[^"]+)"'):
        imported = re.search(pattern, b"".join(read(server, script) for script in scripts))
        assert (imported is not None) == (path == "/pools/local")
        if imported:
            scripts.append(f"/static/dashboard/{imported[1].decode()}")
    sizes_bytes = [len(read(server, script, "br")) for script in scripts]
    assert 20_000 < sum(sizes_bytes) <= 90_000


def read(server: MahavishnuServer, path: str, encoding: str = "identity") -> bytes:
    """Return the body of an answer, as it was sent."""
    request = urllib.request.Request(f"{server.http_url}{path}", headers={"Accept-Encoding": encoding})
    with urllib.request.urlopen(request, timeout=20) as answer:
        # What would not get smaller is not compressed.
        assert answer.headers.get("Content-Encoding", "identity") in (encoding, "identity")
        body: bytes = answer.read()
        return body


@pytest.mark.browser
async def test_address_with_a_malformed_escape_is_a_page(server: MahavishnuServer, browser: Browser) -> None:
    async with open_page(browser, f"{server.http_url}/start/%") as page:
        await expect(page.get_by_role("heading", level=1)).to_have_text("There is no workflow %")


@pytest.mark.browser
async def test_skip_link_keeps_the_part_of_the_page(server: MahavishnuServer, browser: Browser) -> None:
    server.services.create_workflow(workflow_id="skipped", adapter="python", prompt="", stages=["one"])
    async with open_page(browser, f"{server.http_url}/workflows/skipped#data") as page:
        await expect(page.get_by_role("heading", name="Parameters")).to_be_visible()
        await page.get_by_role("link", name="Skip to the content").press("Enter")
        await expect(page.locator("main")).to_be_focused()
        await expect(page.get_by_role("heading", name="Parameters")).to_be_visible()
        assert page.url == f"{server.http_url}/workflows/skipped#data"
