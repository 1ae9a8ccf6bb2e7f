"""Whether this worker has the code of a stage."""

from __future__ import annotations

from typing import Final

from orchestration.models import Stage
from orchestration.sdk import UnknownAdapter, find_adapter

_lacking: Final[set[tuple[str, str]]] = set()
"""What this process has found missing, by adapter and `call`. It is not looked for again, so that all stages that a
process runs belong to one version of the code."""


class UncheckedCode(Exception):
    """Only an import shows whether the worker has the code. That must not happen in a transaction."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        super().__init__(stage)


def find_missing(stage: Stage) -> str:
    """Return what this process lacks to run a stage; empty if nothing.

    Raises:
        UncheckedCode: if only an import could show that. Call `check_code()` then.
    """
    missing = _find_missing(stage, may_import=False)
    if missing is None:
        raise UncheckedCode(stage)
    return missing


def find_missing_for_continuation(stage: Stage) -> str:
    """Return what this process lacks to continue inline with a stage, or its name if only an import could show that."""
    missing = _find_missing(stage, may_import=False)
    return stage.name if missing is None else missing


def check_code(stage: Stage) -> None:
    """Import the code of a stage, and remember whether it is missing."""
    _find_missing(stage, may_import=True)


def _find_missing(stage: Stage, *, may_import: bool) -> str | None:
    adapter_name, plan = stage.workflow.adapter, stage.stage_plan
    if (adapter_name, plan.call) in _lacking:
        return plan.call or f"adapter {adapter_name}"
    try:
        adapter = find_adapter(adapter_name)
    except UnknownAdapter:
        missing: str | None = f"adapter {adapter_name}"
    else:
        check = getattr(adapter, "find_missing", None)
        missing = check(plan, may_import=may_import) if check is not None else ""
    if missing:
        _lacking.add((adapter_name, plan.call))
    return missing
