"""The list of mutants goes with the code, with the tests and with the page that shows it."""

from __future__ import annotations

import pytest

from tests.faults.catalog import MUTANTS, PROJECT_DIR, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_mutant_fits_the_code_and_names_a_test_that_is_there(mutant: Mutant) -> None:
    text = (PROJECT_DIR / mutant.module).read_text(encoding="utf-8")
    assert mutant.mutated(text) != text
    compile(mutant.mutated(text), mutant.module, "exec")
    file, name = mutant.caught_by.split("::")
    assert f"def {name}(" in (PROJECT_DIR / file).read_text(encoding="utf-8")


def test_the_page_on_testing_lists_every_mutant_and_no_other() -> None:
    page = (PROJECT_DIR / "docs" / "testing.md").read_text(encoding="utf-8")
    listed = [line for line in page.splitlines() if line.startswith("| ") and "::test_" in line]
    assert listed == [row(mutant) for mutant in MUTANTS]
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)


def row(mutant: Mutant) -> str:
    return f"| {mutant.name} | `{mutant.module}` | `{mutant.caught_by.removeprefix('tests/realtime/')}` |"
