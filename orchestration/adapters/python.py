"""The adapter `python`: each stage is a function of a module, made a stage by `@stage`."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

from orchestration.plan import InvalidDefinition, Plan, StagePlan
from orchestration.sdk.adapter import StageFailed
from orchestration.sdk.context import Context
from orchestration.sdk.stage import StageDefinition, in_steps
from orchestration.sdk.workflow import WorkflowDefinition


class PythonAdapter:
    """Calls functions; one that is a coroutine runs on an event loop of its own, with the same context."""

    def plan(self, definition: WorkflowDefinition, *, prompt: str, params: Mapping[str, Any]) -> Plan:
        stages = in_steps(definition.steps(prompt, params))
        for stage in stages:
            if stage.options:
                raise InvalidDefinition(
                    f"The stage {stage.name} is no function: expected stages made by @stage, or another adapter than "
                    f"{definition.adapter}"
                )
        return Plan(
            name=definition.name, adapter=definition.adapter, stages=stages, timeout_seconds=definition.timeout_seconds
        )

    def run(self, stage: StagePlan, ctx: Context, inputs: dict[str, Any]) -> Any:
        output = find_function(stage.call)(ctx, inputs)
        return ctx.home.run(output) if inspect.isawaitable(output) else output


def find_function(call: str) -> Callable[..., Any]:
    """Return the function behind `package.module:name`.

    Raises:
        StageFailed: there is none: this worker has other code than the process that started the run.
    """
    module_name, _, name = call.partition(":")
    try:
        found = reduce(getattr, name.split("."), importlib.import_module(module_name))
    except (ImportError, AttributeError) as error:
        raise StageFailed(
            f"This worker has no {call}: its code differs from that of the process that started the run",
            details=repr(error),
        ) from error
    function = found.function if isinstance(found, StageDefinition) else found
    if not callable(function):
        raise StageFailed(f"{call} is no function", may_retry=False)
    return function
