"""The adapter `python`: each stage is a module-level function, decorated with `@stage`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any, Final

from orchestration.limits import engine_limits
from orchestration.sdk import (
    Context,
    Definition,
    InvalidDefinition,
    MapItems,
    MissingRequirement,
    Plan,
    StageDefinition,
    StageFailed,
    StagePlan,
    StageSkipped,
    error_for_clients,
    plan_stages,
)

_broken: Final[dict[str, str]] = {}
"""Why functions cannot be imported, by `call`. Their import is not repeated, so all stages that a process runs belong
to one version of the code, and a broken module is not executed for each message."""


class PythonAdapter:
    """Calls functions. A coroutine runs on a new event loop, with the same context."""

    supports_atomic = True

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

    def find_missing(self, stage: StagePlan, *, may_block: bool) -> str | None:
        """Check whether this worker has the functions of the stage and of its condition."""
        missing = find_missing_function(stage.call, may_block=may_block)
        if missing == "" and stage.condition:
            return find_missing_function(stage.condition, may_block=may_block)
        return missing

    def run(self, stage: StagePlan, ctx: Context, inputs: dict[str, Any]) -> Any:
        """Call the stage's function and return its output.

        Raises:
            StageSkipped: if the stage has a condition that does not hold.
        """
        if stage.condition and _holds(stage.condition, ctx, inputs) == stage.negated:
            name = stage.condition.partition(":")[2]
            raise StageSkipped(f"{name} returned a {'true' if stage.negated else 'false'} value")
        if stage.each is not None:
            return MapItems.of(stage.each.of, ctx.results)
        arguments, named = stage.arguments.positional, stage.arguments.named
        returned = find_function(stage.call)(ctx, inputs, *arguments, **named)
        if not inspect.isawaitable(returned):
            return returned
        if stage.atomic:
            if inspect.iscoroutine(returned):
                returned.close()
            raise StageFailed(
                "The stage is atomic and returned a coroutine, which does not run in the thread of the transaction. "
                "Expected a plain function.",
                may_retry=False,
            )
        return ctx.run_coroutine(returned)


def _holds(condition: str, ctx: Context, inputs: dict[str, Any]) -> bool:
    returned = find_function(condition)(ctx, inputs)
    return bool(ctx.run_coroutine(returned) if inspect.isawaitable(returned) else returned)


def find_missing_function(call: str, *, may_block: bool) -> str | None:
    """Return an empty text if there is such a function; None if that is unknown without an import.

    Raises:
        MissingRequirement: if there is none.
    """
    if not may_block and call not in _broken and call.partition(":")[0] not in sys.modules:
        return None
    find_function(call)
    return ""


def find_function(call: str) -> Callable[..., Any]:
    """Return the function at `package.module:name`.

    Raises:
        MissingRequirement: if it does not exist or its module cannot be imported. So this worker's code differs from
            that of the process that started the run.
    """
    if call in _broken:
        raise MissingRequirement(call, _broken[call])
    module_name, _, name = call.partition(":")
    try:
        found = reduce(getattr, name.split("."), importlib.import_module(module_name))
    except (Exception, SystemExit) as error:
        # The module is a user's code and may raise anything.
        _broken[call] = error_for_clients(error, engine_limits())
        raise MissingRequirement(call, _broken[call]) from error
    function = found.function if isinstance(found, StageDefinition) else found
    if not callable(function):
        raise MissingRequirement(call, "it is not callable")
    return function
