"""`docs/glossary.md`: alphabetical, and every term is one that the code uses."""

from __future__ import annotations

import re

import pytest

from tests.docs.markdown import PROJECT_DIR, page, table

PACKAGES = ("mahavishnu_site", "realtime", "orchestration", "tests/faults")
TERMS = [row["Term"] for row in table(page("docs/glossary.md"), first="Term")]


@pytest.fixture(scope="module")
def source() -> str:
    """Return all code of the project, with identifiers in CamelCase split into words."""
    paths = (
        path for package in (*PACKAGES, "clients/python") for path in sorted((PROJECT_DIR / package).rglob("*.py"))
    )
    text = "\n".join(path.read_text(encoding="utf-8") for path in paths)
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)


def test_glossary_is_in_alphabetical_order() -> None:
    assert sorted(TERMS, key=str.lower) == TERMS
    assert len(set(TERMS)) == len(TERMS) > 0


@pytest.mark.parametrize("term", TERMS)
def test_glossary_term_is_used_in_code(source: str, term: str) -> None:
    words = r"[\s_-]+".join(map(re.escape, re.split(r"[ -]", term)))
    assert re.search(rf"(?<![a-zA-Z]){words}(?:e?s)?(?![a-zA-Z])", source, flags=re.IGNORECASE), term
