"""The documents of the project, rendered from their Markdown: each once per process, and again when it changes."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from django.conf import settings
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.token import Token

_FILES: Final = {
    "readme": "README.md",
    "changelog": "CHANGELOG.md",
    "contributing": "CONTRIBUTING.md",
    "security-policy": "SECURITY.md",
    "client-python": "clients/python/README.md",
    "client-javascript": "clients/javascript/README.md",
}
"""Documents outside the folder `docs`, by name. The first one is shown first."""

_LISTED_AS: Final = {
    "readme": "Read me first",
    "security-policy": "Report a vulnerability",
    "client-python": "Client for Python",
    "client-javascript": "Client for JavaScript",
}
"""Titles in lists that are clearer than the first heading."""

_REQUIRED: Final = ("README.md", "docs/protocol.md")
"""Other projects have a folder `docs` too."""

_COMMENT: Final = re.compile(r"\s*<!--.*?-->\s*", re.DOTALL)
_NOT_IN_ANCHORS: Final = re.compile(r"[^\w\- ]")
_LISTED_HEADINGS: Final = ("h2", "h3")


@dataclass(frozen=True, slots=True)
class Heading:
    """A heading of a document.

    Attributes:
        tag: `h2` or `h3`.
        anchor: Its id in the page.
        text: Its text.
    """

    tag: str
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """A document as a page shows it.

    Attributes:
        title: Its first heading.
        summary: Its first paragraph, as text.
        html: Its text with headings, tables and code.
        headings: Those that a table of contents lists.
    """

    title: str
    summary: str
    html: SafeString
    headings: tuple[Heading, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """A document in a list."""

    name: str
    title: str
    summary: str


def find_documents(folder: Path | None = None) -> dict[str, str]:
    """Return the path of each document below `folder`, by its name in URLs; none if they are not installed.

    A wheel has no documents: they exist where the server runs from its source.
    """
    folder = folder or settings.BASE_DIR
    if not all((folder / path).is_file() for path in _REQUIRED):
        return {}
    found = {name: path for name, path in _FILES.items() if (folder / path).is_file()}
    paths = (path.relative_to(folder / "docs") for path in sorted((folder / "docs").rglob("*.md")))
    return found | {"-".join(path.with_suffix("").parts): f"docs/{path.as_posix()}" for path in paths}


def list_documents(link: Callable[[str], str]) -> list[Listed]:
    """Return all documents, the README first and the others by title."""
    documents = [(name, read_document(name, link)) for name in find_documents()]
    listed = [
        Listed(name, _LISTED_AS.get(name, document.title), document.summary) for name, document in documents if document
    ]
    return listed[:1] + sorted(listed[1:], key=lambda each: each.title.lower())


def read_document(name: str, link: Callable[[str], str]) -> Document | None:
    """Return a document; None if there is none with this name.

    Args:
        name: Its name in URLs.
        link: Returns the URL of the document with a name.
    """
    paths = find_documents()
    if name not in paths:
        return None
    file = settings.BASE_DIR / paths[name]
    links = tuple((path, link(other)) for other, path in paths.items())
    return _render(file, paths[name], file.stat().st_mtime_ns, links)


@lru_cache(maxsize=128)
def _render(file: Path, path: str, mtime_ns: int, links: tuple[tuple[str, str], ...]) -> Document:
    """Render a file. `mtime_ns` makes a changed file another one."""
    markdown = _markdown()
    tokens = markdown.parse(file.read_text(encoding="utf-8"))
    headings = _name_headings(tokens)
    _change_links(tokens, path, dict(links))
    title = next((heading.text for heading in headings if heading.tag == "h1"), path)
    html = markdown.renderer.render(tokens, markdown.options, {})
    listed = tuple(heading for heading in headings if heading.tag in _LISTED_HEADINGS)
    # The renderer escapes the text, and `_escaped_html` the rest.
    return Document(title, _first_paragraph(tokens), mark_safe(html), listed)


def _markdown() -> MarkdownIt:
    """Return a renderer of CommonMark with tables. HTML in a text is shown as text, and comments are left out."""
    # `html` only makes tokens of it: without them, comments would be text.
    markdown = MarkdownIt("commonmark", {"html": True}).enable("table")
    rules: dict[str, Any] = markdown.renderer.rules  # type: ignore[attr-defined]
    rules["html_block"] = rules["html_inline"] = _escaped_html
    # Files beside a document are not served.
    rules["image"] = lambda tokens, index, *_: escape(tokens[index].content)
    # No landmark: a document may have a hundred tables.
    rules["table_open"] = lambda *_: '<div class="scrolls" tabindex="0"><table>\n'
    rules["table_close"] = lambda *_: "</table></div>\n"
    rules["fence"] = rules["code_block"] = _code
    rules["heading_close"] = _heading_close
    return markdown


def _escaped_html(tokens: Sequence[Token], index: int, *_: Any) -> str:
    return str(escape(_COMMENT.sub("", tokens[index].content)))


def _code(tokens: Sequence[Token], index: int, *_: Any) -> str:
    return f'<pre tabindex="0"><code>{escape(tokens[index].content)}</code></pre>\n'


def _heading_close(tokens: Sequence[Token], index: int, *_: Any) -> str:
    anchor = tokens[index - 2].attrGet("id")
    link = f' <a class="anchor" href="#{anchor}" aria-label="Link to this section">#</a>'
    return f"{link if tokens[index].tag != 'h1' else ''}</{tokens[index].tag}>\n"


def _name_headings(tokens: Sequence[Token]) -> list[Heading]:
    """Give each heading the id that GitHub gives it, and return all."""
    headings: list[Heading] = []
    used: dict[str, int] = {}
    for opening, inline in pairwise(tokens):
        if opening.type != "heading_open":
            continue
        text = _text_of(inline)
        anchor = _NOT_IN_ANCHORS.sub("", text.lower()).replace(" ", "-")
        count = used[anchor] = used.get(anchor, -1) + 1
        anchor = f"{anchor}-{count}" if count else anchor
        opening.attrSet("id", anchor)
        headings.append(Heading(opening.tag, anchor, text))
    return headings


def _text_of(inline: Token) -> str:
    return "".join(child.content for child in inline.children or () if child.type in ("text", "code_inline"))


def _first_paragraph(tokens: Sequence[Token]) -> str:
    for opening, inline in pairwise(tokens):
        if opening.type == "paragraph_open":
            parts = (" " if child.type == "softbreak" else child.content for child in inline.children or ())
            return "".join(parts)
    return ""


def _change_links(tokens: Sequence[Token], path: str, urls: dict[str, str]) -> None:
    """Let the links to documents lead to their pages. Links to other files of the project become text."""
    for inline in tokens:
        opened: list[Token] = []
        for token in inline.children or ():
            if token.type == "link_open":
                _change_link(token, path, urls)
                opened.append(token)
            elif token.type == "link_close" and opened.pop().tag == "span":
                token.tag = "span"


def _change_link(token: Token, path: str, urls: dict[str, str]) -> None:
    target = urlsplit(str(token.attrGet("href")))
    if target.scheme or target.netloc or not target.path:
        return
    file = posixpath.normpath(posixpath.join(posixpath.dirname(path), unquote(target.path)))
    if file in urls:
        token.attrSet("href", urls[file] + (f"#{target.fragment}" if target.fragment else ""))
    else:
        token.tag, token.attrs = "span", {"title": file}
