"""The adapter `python`: each stage is a module-level function, decorated with `@stage`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.sdk import (
    Context,
    Definition,
    Done,
    InvalidDefinition,
    InvalidParameter,
    Next,
    Plan,
    StageFailed,
    StagePlan,
    plan_stages,
)
from orchestration.sdk.functions import find_function, find_imported_function, find_missing_function
from orchestration.sdk.input_class import parameters_for
from orchestration.sdk.stage_inputs import InvalidInput, checked_return, inputs_of


class PythonAdapter:
    """Calls functions. A coroutine runs on a new event loop, with the same context."""

    supports_atomic = True

    def plan(self, definition: Definition, *, prompt: str, params: Mapping[str, Any]) -> Plan:
        """Return the stages that the workflow's function returned. Stages of other adapters may be among them."""
        stages = plan_stages(definition.steps(prompt, params))
        for stage in stages:
            if stage.options and not stage.adapter:
                raise InvalidDefinition(
                    f"Stage {stage.name} is not a function: expected stages made by @stage or command(…), or another "
                    f"adapter than {definition.adapter}"
                )
        functions = [stage for stage in stages if not stage.adapter]
        check_inputs(definition, functions, {**params, "prompt": prompt})
        return Plan(
            name=definition.name, adapter=definition.adapter, stages=stages, timeout_seconds=definition.timeout_seconds
        )

    def find_missing(self, stage: StagePlan, *, may_block: bool) -> str | None:
        """Check whether this worker has the function of the stage."""
        return find_missing_function(stage.call, may_block=may_block)

    def run(self, stage: StagePlan, ctx: Context, inputs: dict[str, Any]) -> Any:
        """Call the stage's function and return its output."""
        function = find_function(stage.call)
        by_position, by_name = inputs_of(function).arguments(stage.name, inputs, stage.arguments)
        output = function(ctx, *by_position, **by_name)
        if inspect.isawaitable(output):
            if stage.atomic:
                raise _not_atomic(output)
            output = ctx.run_coroutine(output)
        if isinstance(output, Next | Done):
            return output.with_output(checked_return(stage.name, function, output.output))
        return checked_return(stage.name, function, output)


def _not_atomic(output: object) -> StageFailed:
    if inspect.iscoroutine(output):
        output.close()
    return StageFailed(
        "The stage is atomic and returned a coroutine, which does not run in the thread of the transaction. "
        "Expected a plain function.",
        may_retry=False,
    )


def check_inputs(definition: Definition, stages: Sequence[StagePlan], inputs: Mapping[str, Any]) -> None:
    """Check that each stage can be called with the inputs of a run, as far as its function is imported here.

    Raises:
        InvalidParameter: if a parameter has no value that a stage accepts.
        InvalidDefinition: if a stage takes what is not a parameter.
    """
    parameters = parameters_for(definition)
    for stage in stages:
        function = find_imported_function(stage.call)
        if function is None:
            continue
        try:
            inputs_of(function).check(stage, inputs)
        except InvalidInput as error:
            if error.name and error.name not in inputs and not parameters.accepts_others:
                raise InvalidDefinition(f"Cannot start {definition.name}: {error}") from None
            raise InvalidParameter(definition.name, str(error), parameters.described) from None
