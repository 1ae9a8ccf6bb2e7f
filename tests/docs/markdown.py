"""Parse the project's documents: headings, fenced blocks, tables, links and commands."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

PROJECT_DIR = Path(__file__).resolve().parent.parent.parent

_HEADING = re.compile(r"(#{1,6}) (.+)")
_FENCE = re.compile(r"```(\w*)(?: (\w+))?")
_CAUSE = re.compile(r"<!-- cause: (.+) -->")
_CELL_BORDER = re.compile(r"(?<!\\)\|")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block.

    Attributes:
        section: The heading above it.
        language: The first word after the fence.
        role: The second word, which selects the test for the block; "" if there is none.
        cause: The Python code in a comment `<!-- cause: … -->` under the same heading, invisible to readers; "" if
            there is none.
        where: Page and line, for failure messages.
    """

    section: str
    language: str
    role: str
    cause: str
    text: str
    where: str

    @property
    def message(self) -> dict[str, Any]:
        """The block's JSON object."""
        value: dict[str, Any] = json.loads(self.text)
        return value


def pages() -> list[Path]:
    """Return every document of the project."""
    return sorted(
        path for pattern in ("*.md", "docs/**/*.md", "clients/*/README.md") for path in PROJECT_DIR.glob(pattern)
    )


def page(name: str) -> Path:
    """Return the path of a document, such as `docs/protocol.md`."""
    return PROJECT_DIR / name


@cache
def headings(path: Path) -> list[str]:
    """Return the headings of a page, in order, without `#` marks."""
    return [match[2] for _, line in prose(path) if (match := _HEADING.fullmatch(line))]


def anchors(path: Path) -> set[str]:
    """Return the anchors that GitHub generates from the headings of a page."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(path)}


def links(path: Path) -> list[str]:
    """Return the targets of a page's links, without those in code."""
    text = "\n".join(re.sub(r"`[^`]*`", "", line) for _, line in prose(path))
    return re.findall(r"\]\(([^)\s]+)\)", text)


@cache
def blocks(path: Path, *, language: str | None = None, role: str | None = None) -> list[Block]:
    """Return the fenced blocks of a page, in order: all, or only those of a language and a role."""
    found = []
    section, cause, fence, lines = "", "", None, list[str]()
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if fence is None and (heading := _HEADING.fullmatch(line)):
            section, cause = heading[2], ""
        elif fence is None and (comment := _CAUSE.fullmatch(line)):
            cause = comment[1]
        elif fence is None and (fence := _FENCE.fullmatch(line)):
            lines, where = [], f"{path.name}:{number}"
        elif fence is not None and line == "```":
            found.append(
                Block(
                    section=section,
                    language=fence[1],
                    role=fence[2] or "",
                    cause=cause,
                    text="\n".join(lines) + "\n",
                    where=where,
                )
            )
            fence = None
        else:
            lines.append(line)
    return [block for block in found if language in (None, block.language) and role in (None, block.role)]


def table(path: Path, *, first: str) -> list[dict[str, str]]:
    """Return the rows of all tables of a page whose first column is `first`, each by column, without code marks."""
    rows: list[dict[str, str]] = []
    columns: list[str] | None = None
    for _, line in prose(path):
        if not line.startswith("|"):
            columns = None
            continue
        cells = [cell.strip().replace("\\|", "|") for cell in _CELL_BORDER.split(line)[1:-1]]
        if columns is None:
            columns = [plain(cell) for cell in cells]
        elif columns[0] == first and not set(line) <= set("|-: "):
            rows.append(dict(zip(columns, map(plain, cells), strict=True)))
    return rows


def plain(cell: str) -> str:
    """Return the text of a cell without link and code marks."""
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cell).replace("`", "")


def code_spans(path: Path) -> list[str]:
    """Return the text between backticks in a page's prose."""
    return [span for _, line in prose(path) for span in re.findall(r"`([^`]+)`", line)]


def shell_lines(path: Path) -> list[str]:
    """Return the commands of a page's shell blocks, with continued lines joined and without comments."""
    text = "".join(block.text for block in blocks(path, language="sh")).replace("\\\n", " ")
    return [" ".join(line.split(" #")[0].split()) for line in text.splitlines() if line and not line.startswith("#")]


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and text of each line outside fenced blocks."""
    inside = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("```"):
            inside = not inside
        elif not inside:
            yield number, line
