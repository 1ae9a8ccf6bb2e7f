"""The adapter `python`: each stage is a module-level function, decorated with `@stage`."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any, Final

from orchestration.limits import engine_limits
from orchestration.sdk import (
    Context,
    Definition,
    Done,
    InvalidDefinition,
    InvalidParameter,
    MapItems,
    MissingRequirement,
    Next,
    OpenWait,
    Plan,
    StageDefinition,
    StageFailed,
    StagePlan,
    StageSkipped,
    error_for_clients,
    plan_stages,
)
from orchestration.sdk.input_class import parameters_for
from orchestration.sdk.stage_inputs import InvalidInput, checked_return, inputs_of

_broken: Final[dict[str, str]] = {}
"""Why functions cannot be imported, by `call`. Their import is not repeated, so all stages that a process runs belong
to one version of the code, and a broken module is not executed for each message."""


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
        """Check whether this worker has the functions of the stage and of its condition."""
        missing = "" if stage.wait is not None else find_missing_function(stage.call, may_block=may_block)
        return find_missing_condition(stage, may_block=may_block) if missing == "" else missing

    def run(self, stage: StagePlan, ctx: Context, inputs: dict[str, Any]) -> Any:
        """Call the stage's function and return its output.

        Raises:
            StageSkipped: if the stage has a condition that does not hold.
        """
        if (items := before_call(stage, ctx, inputs)) is not None:
            return items
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


def before_call(stage: StagePlan, ctx: Context, inputs: dict[str, Any]) -> MapItems | OpenWait | None:
    """Do what comes before the work of a stage: its condition, and the search for the values of its items.

    Returns:
        The values, for a stage that runs once for each of them; the wait, for a stage that only waits; else None.

    Raises:
        StageSkipped: if the stage has a condition that does not hold.
        StageFailed: if the values cannot be found.
    """
    if stage.condition and _holds(stage, ctx, inputs) == stage.negated:
        name = stage.condition.partition(":")[2]
        raise StageSkipped(f"{name} returned a {'true' if stage.negated else 'false'} value")
    if stage.wait is not None:
        return OpenWait.of(stage.wait, ctx.results, inputs)
    return None if stage.each is None else MapItems.of(stage.each.of, ctx.results)


def find_missing_condition(stage: StagePlan, *, may_block: bool) -> str | None:
    """Check whether this worker has the function of the condition of a stage, as `find_missing_function` does."""
    return find_missing_function(stage.condition, may_block=may_block) if stage.condition else ""


def _not_atomic(output: object) -> StageFailed:
    if inspect.iscoroutine(output):
        output.close()
    return StageFailed(
        "The stage is atomic and returned a coroutine, which does not run in the thread of the transaction. "
        "Expected a plain function.",
        may_retry=False,
    )


def _holds(stage: StagePlan, ctx: Context, inputs: dict[str, Any]) -> bool:
    condition = find_function(stage.condition)
    by_position, by_name = inputs_of(condition).arguments(stage.name, inputs)
    returned = condition(ctx, *by_position, **by_name)
    return bool(ctx.run_coroutine(returned) if inspect.isawaitable(returned) else returned)


def check_inputs(definition: Definition, stages: Sequence[StagePlan], inputs: Mapping[str, Any]) -> None:
    """Check that each stage can be called with the inputs of a run, as far as its function is imported here.

    Raises:
        InvalidParameter: if a parameter has no value that a stage accepts.
        InvalidDefinition: if a stage takes what is not a parameter.
    """
    parameters = parameters_for(definition)
    for stage in stages:
        function = _imported(stage.call)
        if function is None:
            continue
        try:
            inputs_of(function).check(stage, inputs)
        except InvalidInput as error:
            if error.name and error.name not in inputs and not parameters.accepts_others:
                raise InvalidDefinition(f"Cannot start {definition.name}: {error}") from None
            raise InvalidParameter(definition.name, str(error), parameters.described) from None


def _imported(call: str) -> Callable[..., Any] | None:
    """Return a function without importing its module; None if that is not possible."""
    module = sys.modules.get(call.partition(":")[0])
    try:
        return None if module is None else find_function(call)
    except MissingRequirement:
        return None


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
