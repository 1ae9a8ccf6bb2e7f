"""Links between pages, which keep the document and its connection."""

from __future__ import annotations

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
