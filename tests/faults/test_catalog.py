"""Every fault applies to the code, and its test exists."""

from __future__ import annotations

import pytest

from tests.faults.catalog import PROJECT_DIR, Fault, load_faults

FAULTS = load_faults()


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_fault_applies_to_its_module_and_names_an_existing_test(fault: Fault) -> None:
    text = (PROJECT_DIR / fault.module).read_text(encoding="utf-8")
    assert fault.apply(text) != text
    if fault.module.endswith(".py"):
        compile(fault.apply(text), fault.module, "exec")
    file, name = fault.caught_by.split("::")
    assert f"def {name}(" in (PROJECT_DIR / file).read_text(encoding="utf-8")


def test_fault_names_are_unique() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) > 0
