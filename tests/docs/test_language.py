"""Code, tests and documents use plain words, and modules are short and named after things."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.markdown import PROJECT_DIR

PACKAGES = ("mahavishnu_site", "realtime", "orchestration", "demonstrations")
FOLDERS = (*PACKAGES, "dashboard", "clients", "benchmarks", "tests", "deploy", ".ci")
TEXT_SUFFIXES = {".py", ".md", ".toml", ".html", ".js", ".css", ".txt", ".json", ".service", ".yaml"}
TEXT_NAMES = {"Makefile", "Procfile", "Dockerfile"}

BANNED_PHRASES = PROJECT_DIR / "tests" / "docs" / "banned_phrases.toml"
PRINTED_REFERENCE = PROJECT_DIR / "tests" / "reference"
"""The examples of the API reference, as printed."""

MAX_MODULE_LINES = 300
GENERATED = "Written by `make clients`"
"""In the first line of a module that is generated, which may be longer."""

ACTIVITY_MODULES: set[str] = set()
"""Product modules that are named after an activity ("…ing") for a reason; there is none so far."""


def load_banned_phrases() -> dict[str, str]:
    """Return what to write instead of each banned phrase."""
    phrases: dict[str, str] = tomllib.loads(BANNED_PHRASES.read_text(encoding="utf-8"))["use_instead"]
    return phrases


def pattern_for(phrases: list[str]) -> re.Pattern[str]:
    """Return a pattern that finds the phrases as whole words, in identifiers and across line breaks too."""
    between_words = r"(?:_|\s+(?:[#*>|]+ )?)"
    alternatives = "|".join(between_words.join(map(re.escape, phrase.split())) for phrase in phrases)
    # `file.tell()` is Python's, and the changelog names variables of earlier versions.
    return re.compile(rf"(?<![A-Za-z.])(?<!MAHAVISHNU_)(?:{alternatives})(?![A-Za-z])", re.IGNORECASE)


def find_banned(text: str) -> list[tuple[int, str]]:
    """Return the line number and the phrase of every hit in a text."""
    hits = pattern_for(list(load_banned_phrases())).finditer(text)
    return [(text.count("\n", 0, hit.start()) + 1, " ".join(re.split(r"[\W_]+", hit[0].lower()))) for hit in hits]


def text_files() -> Iterator[Path]:
    """Yield every file of the project that people read, except the printed reference and the list itself."""
    nested = (path for folder in FOLDERS for path in (PROJECT_DIR / folder).rglob("*"))
    for path in sorted({*PROJECT_DIR.glob("*"), *PROJECT_DIR.glob("docs/**/*"), *nested}):
        written_by_a_tool = {"__pycache__", "results", "vendor"} & set(path.parts)
        is_text = path.suffix in TEXT_SUFFIXES or path.name in TEXT_NAMES or path.parent.name == ".ci"
        if path.is_file() and is_text and not written_by_a_tool:
            yield path


def modules() -> list[Path]:
    """Return every Python module of the project, tests included, except generated migrations."""
    return [path for path in text_files() if path.suffix == ".py" and path.parent.name != "migrations"]


def relative(path: Path) -> str:
    return path.relative_to(PROJECT_DIR).as_posix()


def test_text_avoids_banned_phrases() -> None:
    use_instead = load_banned_phrases()
    hits = [
        f"{relative(path)}:{line}: {phrase!r}; better: {use_instead[phrase]}"
        for path in text_files()
        if path != BANNED_PHRASES and path != Path(__file__) and not path.is_relative_to(PRINTED_REFERENCE)
        for line, phrase in find_banned(path.read_text(encoding="utf-8"))
    ]
    assert not hits, f"{len(hits)} banned phrases\n" + "\n".join(hits)


@pytest.mark.parametrize(
    ("text", "hits"),
    [
        ("Whoever reads this", [(1, "whoever")]),
        ("def test_clients_are_told() -> None:", [(1, "told")]),
        ("# The worker goes\n# on with it", [(1, "goes on")]),
        ("fine\n\nIt has a lock of its own.", [(3, "of its own")]),
        ("file.tell(); shear(); untold", []),
        ("longest", []),
    ],
)
def test_find_banned_matches_whole_words(text: str, hits: list[tuple[int, str]]) -> None:
    assert find_banned(text) == hits


def test_modules_have_at_most_300_lines() -> None:
    scripts = [path for path in text_files() if path.suffix == ".js" and relative(path).startswith("dashboard/")]
    texts = {relative(path): path.read_text(encoding="utf-8") for path in (*modules(), *scripts)}
    lines = {name: len(text.splitlines()) for name, text in texts.items() if GENERATED not in text.split("\n", 1)[0]}
    assert {name: count for name, count in lines.items() if count > MAX_MODULE_LINES} == {}


def test_product_modules_are_named_after_things() -> None:
    named = {relative(path) for path in modules() if path.stem.endswith("ing")}
    assert {name for name in named if name.startswith(PACKAGES)} == ACTIVITY_MODULES


def test_no_merge_left_its_markers() -> None:
    markers = re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE)
    assert [path for path in text_files() if markers.search(path.read_text(encoding="utf-8"))] == []
