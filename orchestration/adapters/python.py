"""The adapter `python`: each stage is a module-level function, decorated with `@stage`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

from orchestration.sdk import (
    Context,
    Definition,
    InvalidDefinition,
    Plan,
    StageDefinition,
    StageFailed,
    StagePlan,
    plan_stages,
)


class PythonAdapter:
    """Calls functions. A coroutine runs on a new event loop, with the same context."""

    def plan(self, definition: Definition, *, prompt: str, params: Mapping[str, Any]) -> Plan:
        """Return the stages that the workflow's function returned."""
        stages = plan_stages(definition.steps(prompt, params))
        for stage in stages:
            if stage.options:
                raise InvalidDefinition(
                    f"Stage {stage.name} is not a function: expected stages made by @stage, or another adapter than "
                    f"{definition.adapter}"
                )
        return Plan(
            name=definition.name, adapter=definition.adapter, stages=stages, timeout_seconds=definition.timeout_seconds
        )

    def find_missing(self, stage: StagePlan, *, may_import: bool) -> str | None:
        """Return the stage's `package.module:name` if this worker lacks it; empty if it does not."""
        return find_missing_function(stage.call, may_import=may_import)

    def run(self, stage: StagePlan, ctx: Context, inputs: dict[str, Any]) -> Any:
        """Call the stage's function and return its output."""
        output = find_function(stage.call)(ctx, inputs)
        return ctx.run_coroutine(output) if inspect.isawaitable(output) else output


def find_missing_function(call: str, *, may_import: bool) -> str | None:
    """Return `call` if there is no such function; None if that is unknown without an import."""
    if not may_import and call.partition(":")[0] not in sys.modules:
        return None
    try:
        find_function(call)
    except StageFailed:
        return call
    return ""


def find_function(call: str) -> Callable[..., Any]:
    """Return the function at `package.module:name`.

    Raises:
        StageFailed: if it does not exist, because this worker's code differs from that of the process that started the
            run.
    """
    module_name, _, name = call.partition(":")
    try:
        found = reduce(getattr, name.split("."), importlib.import_module(module_name))
    except (ImportError, AttributeError) as error:
        raise StageFailed(
            f"{call} not found on this worker: its code differs from that of the process that started the run",
            details=repr(error),
        ) from error
    function = found.function if isinstance(found, StageDefinition) else found
    if not callable(function):
        raise StageFailed(f"{call} is not callable", may_retry=False)
    return function
