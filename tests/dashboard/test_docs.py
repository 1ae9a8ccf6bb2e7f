"""The pages of the documentation: every document of the project, useful without scripts."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from http import HTTPStatus
from pathlib import Path
from urllib.parse import unquote

import pytest
from django.conf import settings as project
from django.test import Client
from playwright.async_api import Browser, expect

from dashboard.documents import find_documents, list_documents, read_document
from tests.docs.markdown import PROJECT_DIR
from tests.harness.browser import open_page
from tests.harness.server import MahavishnuServer

LINK = re.compile(r'<a [^>]*href="([^"]*)"')
ANCHOR = re.compile(r'id="([^"]+)"')


def url_of(name: str) -> str:
    return f"/docs/{name}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that writes the documents of another project, which are then shown."""

    def write(**texts: str) -> None:
        (tmp_path / "docs").mkdir(exist_ok=True)
        for name, text in {"protocol": "# Protocol", **texts}.items():
            file = tmp_path / "docs" / f"{name}.md"
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
        (tmp_path / "README.md").write_text("# Read me\n\nSee [one](docs/one.md#a-b).", encoding="utf-8")

    monkeypatch.setattr(project, "BASE_DIR", tmp_path)
    return write


def test_links_between_documents_lead_to_pages_and_their_sections() -> None:
    pages = {url_of(name): str(read_document(name, url_of).html) for name in find_documents()}  # type: ignore[union-attr]
    assert len(pages) >= len(list((PROJECT_DIR / "docs").rglob("*.md"))) + 1
    for url, page in pages.items():
        for link in LINK.findall(page):
            path, _, anchor = link.partition("#")
            assert path.startswith(("https://", "http://")) or (path or url) in pages, (url, link)
            if anchor and (path or url) in pages:
                assert unquote(anchor) in ANCHOR.findall(pages[path or url]), (url, link)


def test_document_is_rendered_again_when_it_changes_and_shows_html_as_text(folder: Callable[..., None]) -> None:
    folder(
        one="# One\n\n<!-- hidden -->\n\n<script>alert(1)</script>\n\n"
        "[x](javascript:alert(1)) ![i](a.png)\n\n## A b\n\n## A b"
    )
    document = read_document("one", url_of)
    assert document is not None
    assert "&lt;script&gt;" in document.html and "<script" not in document.html
    assert "hidden" not in document.html and 'href="javascript' not in document.html and "<img" not in document.html
    assert [heading.anchor for heading in document.headings] == ["a-b", "a-b-1"]
    readme = read_document("readme", url_of)
    assert readme is not None and '<a href="/docs/one#a-b">one</a>' in readme.html
    folder(one="# Two, which is longer")
    changed = read_document("one", url_of)
    assert changed is not None and changed.title == "Two, which is longer"
    assert read_document("../one", url_of) is None


def test_document_in_a_folder_has_the_name_of_the_folder_too(folder: Callable[..., None]) -> None:
    folder(**{"one": "# One\n\n[two](guides/two.md)", "guides/two": "# Two\n\n[one](../one.md#one)"})
    assert find_documents()["guides-two"] == "docs/guides/two.md"
    one, two = read_document("one", url_of), read_document("guides-two", url_of)
    assert one is not None and '<a href="/docs/guides-two">two</a>' in one.html
    assert two is not None and '<a href="/docs/one#one">one</a>' in two.html


@pytest.mark.django_db
def test_pages_without_installed_documents_say_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Protocol" in Client().get("/docs").content.decode()
    monkeypatch.setattr(project, "BASE_DIR", tmp_path)
    assert "The documents are not on this machine" in Client().get("/docs").content.decode()
    assert Client().get("/docs/protocol").status_code == HTTPStatus.NOT_FOUND


@pytest.mark.django_db
def test_summaries_of_documents_are_cut_between_words() -> None:
    page = unescape(Client().get("/docs").content.decode())
    cut = []
    for document in list_documents(url_of):
        shown = re.search(rf'{re.escape(document.title)}</span> <span class="muted">(.*?)</span>', page)
        assert shown is not None
        words = shown[1].removesuffix(" …").split()
        assert words == document.summary.split()[: len(words)]
        cut += [document.name] * (len(words) < len(document.summary.split()))
    assert cut


@pytest.mark.browser
async def test_document_can_be_searched_and_its_code_copied(server: MahavishnuServer, browser: Browser) -> None:
    async with open_page(browser, f"{server.http_url}/docs") as page:
        await page.keyboard.press("/")
        await page.keyboard.type("websocket carries requests")
        await expect(page.locator("[data-searched] > li:visible")).to_have_count(1)
        await page.get_by_role("link", name="Protocol").click()
        await expect(page.get_by_role("heading", name="Protocol", exact=True)).to_be_visible()
        await page.get_by_role("navigation", name="On this page").get_by_role("link", name="list_events").click()
        assert page.url == f"{server.http_url}/docs/protocol#list_events"
        await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        code = page.locator(".code").first
        await code.hover()
        await code.get_by_role("button", name="Copy").click()
        await expect(code.get_by_role("button", name="Copied")).to_be_visible()
        copied = await page.evaluate("navigator.clipboard.readText()")
        assert copied == (await code.locator("pre").text_content() or "").removesuffix("\n")
