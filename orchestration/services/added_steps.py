"""Add steps to a run, behind a stage that asks for them as it completes."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from django.db.models import F, Max

from orchestration import signals
from orchestration.limits import engine_limits
from orchestration.models import PoolStatus, Stage, StageMap, StageStatus, Workflow
from orchestration.models.stage import MAX_STAGE_NAME_LENGTH
from orchestration.plan import StagePlan
from orchestration.services.errors import ServiceError
from orchestration.services.map_items import remove_items
from orchestration.services.planned_stages import own_pools, planned_stage
from orchestration.services.pools import PoolNotAccepting, ensure_pool
from orchestration.services.stage_deletion import delete_rows

_CANDIDATES: Final = 16
"""Names that one query examines, to find one that the run does not have."""

_DELETED_AT_ONCE: Final = 500


class TooManyStages(ServiceError):
    """A run may not have as many stages as a stage adds."""

    def __init__(self, workflow_id: str, count: int, max_stages: int) -> None:
        self.workflow_id = workflow_id
        self.count = count
        self.max_stages = max_stages
        super().__init__(workflow_id, count, max_stages)

    def __str__(self) -> str:
        return (
            f"Workflow {self.workflow_id} would have {self.count} stages; at most {self.max_stages} are allowed "
            "(MAHAVISHNU_MAX_RUN_STAGES)."
        )


class ItemAddsSteps(ServiceError):
    """An item of a stage adds steps, although that stage waits for it."""

    def __init__(self, item_name: str) -> None:
        self.item_name = item_name
        super().__init__(item_name)

    def __str__(self) -> str:
        return f"Item {self.item_name} cannot add steps; expected Next(…) from a stage after the map."


def add_steps(by: Stage, stage_plans: Sequence[StagePlan], *, at: datetime) -> list[Stage]:
    """Store pending stages in the steps behind a stage, before the later steps of its run.

    The steps that another stage of the same step has added are shared: later steps move only as far as needed. No stage
    of a later step has started, because `by` belongs to the current one.

    Args:
        by: The stage that adds them, locked with its workflow, and in the current step.
        stage_plans: The stages; step 0 is the step behind `by`.
        at: The time of the change.

    Raises:
        TooManyStages, ItemAddsSteps
        PoolNotAccepting: if the own pool of a stage is closed.
        UnknownPool: if it does not exist, and none may be created.
    """
    workflow = by.workflow
    if by.item_of_id is not None:
        raise ItemAddsSteps(by.name)
    max_stages = engine_limits().max_run_stages
    if workflow.total_stages + len(stage_plans) > max_stages:
        raise TooManyStages(workflow.pk, workflow.total_stages + len(stage_plans), max_stages)
    _open_pools(workflow, stage_plans, at=at)
    of_run = Stage.objects.filter(workflow_id=workflow.pk)
    added_before = of_run.filter(finished_at=None, step__gt=by.step, added_by__step=by.step)
    last_shared = added_before.aggregate(step=Max("step"))["step"] or by.step
    last = by.step + 1 + max(stage_plan.step for stage_plan in stage_plans)
    moved_steps = max(0, last - last_shared)
    if moved_steps:
        of_run.filter(step__gt=last_shared).update(step=F("step") + moved_steps)
    first_position = 1 + (of_run.aggregate(position=Max("position"))["position"] or 0)
    added = [
        planned_stage(workflow, stage_plan, position=position)
        for position, stage_plan in enumerate(_with_new_names(by, stage_plans), first_position)
    ]
    for stage in added:
        stage.step += by.step + 1
        stage.added_by = by
    Stage.objects.bulk_create(added)
    _count(workflow, len(added), completed=0, at=at)
    for stage in added:
        # The first stage behind the shared steps makes room for itself and for those behind it.
        moves = moved_steps if stage.step > last_shared else 0
        moved_steps -= moves
        signals.stage_added.send(sender=Stage, stage=stage, moved_steps=moves, at=at)
    return added


def _open_pools(workflow: Workflow, stage_plans: Sequence[StagePlan], *, at: datetime) -> None:
    """Create the own pools of stages that do not exist, and note them in the run."""
    pools = own_pools(stage_plans, workflow.own_pools)
    if pools == workflow.own_pools:
        return
    for pool_id in sorted(set(pools.splitlines()).difference(workflow.own_pools.splitlines())):
        if (status := ensure_pool(pool_id, at=at)) == PoolStatus.CLOSED:
            raise PoolNotAccepting(pool_id, status, "stages")
    workflow.own_pools = pools
    Workflow.objects.filter(pk=workflow.pk).update(own_pools=pools)


def remove_added(workflow: Workflow, stages: Iterable[Stage], rerun: Collection[int], *, at: datetime) -> set[int]:
    """Remove the stages that stages to run again have added, and those that these have added, and so on.

    Args:
        workflow: A finished workflow, locked.
        stages: All its stages, locked.
        rerun: The keys of the stages that run again.
        at: The time of the change.

    Returns:
        The keys of the removed stages.
    """
    removed: dict[int, Stage] = {}
    # A stage is stored after the stage that adds it.
    for stage in sorted(stages, key=lambda stage: stage.pk):
        if stage.added_by_id is not None and (stage.added_by_id in rerun or stage.added_by_id in removed):
            removed[stage.pk] = stage
    keys = sorted(removed)
    for first in range(0, len(keys), _DELETED_AT_ONCE):
        block = keys[first : first + _DELETED_AT_ONCE]
        for stage_map in StageMap.objects.filter(stage_id__in=block):
            remove_items(stage_map, at=at)
        delete_rows(block, at=at)
    for stage in removed.values():
        stage.workflow = workflow
        _count(workflow, -1, completed=-int(stage.status == StageStatus.COMPLETED), at=at)
        signals.stage_removed.send(sender=Stage, stage=stage, at=at)
    return set(removed)


def _count(workflow: Workflow, stages: int, *, completed: int, at: datetime) -> None:
    workflow.total_stages += stages
    workflow.stages_completed += completed
    workflow.updated_at = at
    Workflow.objects.filter(pk=workflow.pk).update(
        total_stages=F("total_stages") + stages, stages_completed=F("stages_completed") + completed, updated_at=at
    )


def _with_new_names(by: Stage, stage_plans: Sequence[StagePlan]) -> list[StagePlan]:
    """Return the plans with names that the run does not have: `agent_turn_2` behind `agent_turn`."""
    base_of_adder = by.stage_plan.base_name or by.name
    number_of_adder = int(by.name.rpartition("_")[2]) if by.stage_plan.base_name else 1
    free: dict[str, Iterator[str]] = {}
    used: set[str] = set()
    renamed: list[StagePlan] = []
    for stage_plan in stage_plans:
        base = stage_plan.name
        if base not in free:
            free[base] = _free_names(by.workflow_id, base, number_of_adder + 1 if base == base_of_adder else 1)
        name = next(name for name in free[base] if name not in used)
        used.add(name)
        base_name = "" if name == stage_plan.name else stage_plan.name
        renamed.append(replace(stage_plan, name=name, base_name=base_name))
    return renamed


def _free_names(workflow_id: str, base: str, first: int) -> Iterator[str]:
    """Yield the names that no stored stage of the run has, in order. One query finds those of `_CANDIDATES` names."""
    for number in itertools.count(first, _CANDIDATES):
        names = [_numbered(base, each) for each in range(number, number + _CANDIDATES)]
        stored = Stage.objects.filter(workflow_id=workflow_id, name__in=names).values_list("name", flat=True)
        taken = set(stored)
        yield from (name for name in names if name not in taken)


def _numbered(base: str, number: int) -> str:
    if number == 1:
        return base
    suffix = f"_{number}"
    return base[: MAX_STAGE_NAME_LENGTH - len(suffix)] + suffix
