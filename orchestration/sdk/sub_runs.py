"""Sub-runs: `run_workflow` as a step of a plan, and `WaitForRuns`, which a stage returns that has started some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Final

from orchestration.plan import Arguments, InvalidDefinition
from orchestration.sdk.context import Context
from orchestration.sdk.parameters import InvalidParameter
from orchestration.sdk.registry import Definition, UnknownWorkflow, find_definition
from orchestration.sdk.run import Run
from orchestration.sdk.stage import StageDefinition
from orchestration.sdk.stage_errors import StageFailed
from orchestration.services import ServiceError
from orchestration.services.validation import InvalidArgument, json_object

MAX_WAITED_RUNS: Final = 1000
"""Sub-runs that one stage may wait for."""


class WaitForRuns:
    """What a stage returns to wait for sub-runs that it has started. It holds no slot while it waits.

    If a sub-run fails, is cancelled or times out, the stage fails.

    Args:
        runs: What `ctx.start(…)` returned: one run, whose output is that of the stage; or a list of runs, also of one
            or none. Then the output is the list of their outputs, in this order. A run that is listed twice has its
            output in both places.
        allow_failed: How many of them may fail. The output of one that has failed is null.

    Raises:
        StageFailed: if these are not runs, or there are more than `MAX_WAITED_RUNS`. The stage is not tried again.
    """

    def __init__(self, runs: Run | Iterable[Run], *, allow_failed: int = 0) -> None:
        self.is_list = not isinstance(runs, Run)
        self.run_ids = [run.workflow_id for run in _checked_runs(runs)]
        if type(allow_failed) is not int or not 0 <= allow_failed <= MAX_WAITED_RUNS:
            raise StageFailed(
                f"WaitForRuns(…, allow_failed={allow_failed!r}): expected a number of runs, 0 to {MAX_WAITED_RUNS}",
                may_retry=False,
            )
        self.allow_failed = allow_failed


def _checked_runs(runs: Any) -> list[Run]:
    if isinstance(runs, Run):
        return [runs]
    expected = "expected a run that ctx.start(…) returned, or a list of such runs"
    if not isinstance(runs, Iterable):
        raise StageFailed(f"WaitForRuns({type(runs).__name__}): {expected}", may_retry=False)
    found = list(islice(runs, MAX_WAITED_RUNS + 1))
    if len(found) > MAX_WAITED_RUNS:
        text = f"WaitForRuns(…) has more than {MAX_WAITED_RUNS} runs; a stage may wait for {MAX_WAITED_RUNS} at most"
        raise StageFailed(text, may_retry=False)
    for run in found:
        if not isinstance(run, Run):
            raise StageFailed(f"WaitForRuns([{type(run).__name__}, …]): {expected}", may_retry=False)
    return found


def run_workflow(
    definition: Definition, *, of: StageDefinition | None = None, name: str | None = None, **params: Any
) -> StageDefinition:
    """Make a stage that starts a workflow as a sub-run, and waits for it. Its output is that of the sub-run.

    Args:
        definition: The workflow, made by `@workflow`.
        of: An earlier stage whose output, an object, has further parameters of the sub-run.
        name: The name of the stage; by default that of the workflow.
        params: Parameters of the sub-run; JSON.

    Raises:
        InvalidDefinition: if the parameters are not JSON.
    """
    named = {"workflow": definition.name, "params": params, "of": "" if of is None else of.name}
    try:
        stored = json_object("params", named)
    except InvalidArgument as error:
        raise InvalidDefinition(f"run_workflow({definition.name}, …): expected {error.expected}") from error
    return StageDefinition(
        name=name or definition.name,
        call=f"{__name__}:{start_and_wait.__name__}",
        function=start_and_wait,
        arguments=Arguments((), stored),
        adapter="python",
    )


def start_and_wait(
    ctx: Context, inputs: dict[str, Any], value: Any = None, *, workflow: str, params: dict[str, Any], of: str
) -> WaitForRuns:
    """Start a workflow with parameters, those of an earlier stage and, in an item, those of its value.

    Raises:
        StageFailed: if it is refused.
    """
    given = dict(params)
    for found in (*((ctx.results.get(of),) if of else ()), *(() if value is None else (value,))):
        if not isinstance(found, Mapping):
            raise StageFailed(
                f"Cannot start {workflow}: expected an object with its parameters, not {type(found).__name__}",
                may_retry=False,
            )
        given.update(found)
    try:
        return WaitForRuns(ctx.start(find_definition(workflow), inputs["prompt"], **given))
    except InvalidParameter as error:
        raise StageFailed(str(error), may_retry=False) from error
    except (ServiceError, InvalidDefinition, UnknownWorkflow) as error:
        raise StageFailed(f"Cannot start {workflow}: {error}", may_retry=False) from error
