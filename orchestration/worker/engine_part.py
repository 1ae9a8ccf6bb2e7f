"""What the engine does itself of a stage of any adapter: its condition, its wait, the values of its items."""

from __future__ import annotations

import inspect
from typing import Any

from orchestration.sdk import Context, StagePlan, StageSkipped
from orchestration.sdk.functions import find_function, find_missing_function
from orchestration.sdk.map_items import MapItems
from orchestration.sdk.stage_inputs import inputs_of
from orchestration.sdk.waits import OpenWait


def run_engine_part(stage: StagePlan, ctx: Context, inputs: dict[str, Any]) -> MapItems | OpenWait | None:
    """Check the condition of a stage, and do its work if the adapter has no part in it.

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


def _holds(stage: StagePlan, ctx: Context, inputs: dict[str, Any]) -> bool:
    condition = find_function(stage.condition)
    by_position, by_name = inputs_of(condition).arguments(stage.name, inputs)
    returned = condition(ctx, *by_position, **by_name)
    return bool(ctx.run_coroutine(returned) if inspect.isawaitable(returned) else returned)
