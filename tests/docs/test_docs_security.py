"""Every test that `docs/security.md` names exists, and every promise names one."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.docs.markdown import PROJECT_DIR, page

SECURITY = page("docs/security.md").read_text(encoding="utf-8")
CITED = sorted(set(re.findall(r"`(tests/[a-z_/]+\.py)(?:::(test_\w+))?`", SECURITY)))


@cache
def functions_of(path: str) -> set[str]:
    tree = ast.parse((PROJECT_DIR / path).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize(("path", "test"), CITED, ids=[test or path for path, test in CITED])
def test_security_page_names_existing_tests(path: str, test: str) -> None:
    assert not test or test in functions_of(path)
    assert (PROJECT_DIR / path).is_file()


def test_every_promise_names_a_test() -> None:
    promises = SECURITY.split("\n## Promises\n")[1].split("\n## ")[0]
    rows = [
        line for line in promises.splitlines() if line.startswith("| ") and not line.startswith(("| Promise", "| ---"))
    ]
    assert len(rows) > 20
    assert [row for row in rows if "::test_" not in row] == []
