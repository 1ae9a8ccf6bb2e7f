"""`docs/testing.md` lists the tests that wait for a fixed time."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.docs.markdown import PROJECT_DIR, page, table

TESTING = page("docs/testing.md")


def test_testing_guide_lists_the_tests_that_wait_for_a_fixed_time() -> None:
    listed = [(row["File"], row["Test"]) for row in table(TESTING, first="File")]
    tests = {(file, test.name): test for file, test in all_tests()}
    waiting = {key for key, test in tests.items() if waits_for_fixed_time(test)}
    assert len(listed) == len(set(listed))
    assert set(listed) - set(tests) == set(), "no such test"
    assert waiting - set(listed) == set(), "not listed"


def all_tests() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Yield every test function with the path of its file."""
    for path in sorted((PROJECT_DIR / "tests").rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                yield path.relative_to(PROJECT_DIR).as_posix(), node


def waits_for_fixed_time(function: ast.AST) -> bool:
    """Return whether a test sleeps outside a polling loop, or expects that nothing arrives."""
    polling = {id(call) for loop in ast.walk(function) if isinstance(loop, ast.While) for call in ast.walk(loop)}
    return any(
        is_fixed_wait(node) and id(node) not in polling for node in ast.walk(function) if isinstance(node, ast.Call)
    )


def is_fixed_wait(call: ast.Call) -> bool:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    match name, call.args:
        case "sleep", [ast.Constant(value=0)]:
            return False  # Lets other coroutines run once.
        case (("sleep" | "expect_nothing"), [_]):
            return True
    return False
