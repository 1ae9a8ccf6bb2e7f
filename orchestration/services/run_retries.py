"""Retry finished runs: run their uncompleted stages again, or all from one stage on."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Final

from django.db import transaction
from django.db.models import F

from orchestration import signals
from orchestration.models import (
    FINISHED_WORKFLOW_STATUSES,
    Pool,
    PoolStatus,
    Stage,
    StageMap,
    StageStatus,
    Workflow,
    WorkflowStatus,
)
from orchestration.models.pool_counters import batched_counters
from orchestration.services import row_locks, validation
from orchestration.services.added_steps import remove_added
from orchestration.services.advance import advance, queue_step
from orchestration.services.errors import ServiceError
from orchestration.services.map_items import ITEM_STATUSES_TO_RESET, continue_items, remove_items, reset_items
from orchestration.services.planned_stages import UNSTARTED, deadline_of, pool_of
from orchestration.services.pools import PoolNotAccepting, reject_closed_pool
from orchestration.services.step_records import forget_steps
from orchestration.services.streams import forget_streams
from orchestration.services.sub_run_links import forget_sub_runs
from orchestration.services.transitions import IllegalTransition
from orchestration.services.waits import forget_waits, forget_waits_of_items

_READ_TO_RERUN: Final = (
    "pk",
    "name",
    "step",
    "status",
    "hosted",
    "attempt",
    "plan",
    "workflow_id",
    "added_by_id",
    "item_of_id",
)
_RESET_AT_ONCE: Final = 500

_ENDED_WELL: Final = (StageStatus.COMPLETED, StageStatus.SKIPPED)


class NoFailedItems(ServiceError):
    """Only the failed items of a stage were to run again, and it has none."""

    def __init__(self, workflow_id: str, stage_name: str, *, has_items: bool) -> None:
        self.workflow_id = workflow_id
        self.stage_name = stage_name
        self.has_items = has_items
        super().__init__(workflow_id, stage_name, has_items)

    def __str__(self) -> str:
        name = f"{self.workflow_id}/{self.stage_name}"
        if self.has_items:
            return f"No item of stage {name} has failed; without failed_items_only, all of them run again."
        return f"Stage {name} has no items; failed_items_only is for a stage that runs once for each value."


def retry_run(
    *, workflow_id: str, from_stage: str | None = None, failed_items_only: bool = False, at: datetime | None = None
) -> Workflow:
    """Run the uncompleted stages of a finished workflow again; with `from_stage`, also that stage and all later steps.

    Stages that were skipped before the first of these stay skipped.

    Attempt numbers continue, so the report of a worker that still runs an old attempt is rejected. Each stage again has
    as many attempts as its plan allows. If the workflow was moved, they run in its new pool,
    unless they have their own.

    Of a stage with items, those run that are neither completed nor skipped. With `from_stage`, all of them run, unless
    `failed_items_only`: then the completed items of that stage keep their outputs, and so do those of its step.

    Raises:
        InvalidIdentifier, WorkflowNotFound, StageNotFound
        IllegalTransition: if it is not finished, or if it completed and no stage is named.
        InvalidArgument: if the engine does not run it, or `failed_items_only` has no `from_stage`.
        NoFailedItems: if the stage has no items that failed or had not ended.
        PoolNotAccepting: if its pool is closed, or that of a stage which runs again.
    """
    at = validation.timestamp(at)
    if failed_items_only and from_stage is None:
        raise validation.InvalidArgument("failed_items_only", True, "from_stage too: the stage with these items")
    with reject_closed_pool("stages"), transaction.atomic(), batched_counters(at=at):
        # Before the workflow: workers that still run a stage which is removed.
        row_locks.lock_workers_of_run(workflow_id)
        workflow = row_locks.lock_workflow(workflow_id)
        if workflow.plan is None:
            raise validation.InvalidArgument("workflow_id", workflow_id, "a workflow that the engine runs")
        _check_may_retry(workflow, from_stage)
        if workflow.pool is not None and workflow.pool.status == PoolStatus.CLOSED:
            raise PoolNotAccepting(workflow.pool.pk, PoolStatus.CLOSED, "stages")
        rows = workflow.stages.filter(item_of=None).select_for_update(no_key=True)
        stages = list(rows.order_by("pk").only(*_READ_TO_RERUN))
        named = _named_stage(workflow, stages, from_stage)
        if named is not None and failed_items_only:
            _check_failed_items(workflow, named)
        rerun = _stages_to_rerun(stages, named)
        if any(stage.added_by_id is not None for stage in stages):
            removed = remove_added(workflow, stages, {stage.pk for stage in rerun}, at=at)
            rerun = [stage for stage in rerun if stage.pk not in removed]
            stages = [stage for stage in stages if stage.pk not in removed]
        outdated = _outdated(rerun)
        for first in range(0, len(outdated), _RESET_AT_ONCE):
            forget_steps(outdated[first : first + _RESET_AT_ONCE])
            forget_sub_runs(outdated[first : first + _RESET_AT_ONCE])
            forget_streams(outdated[first : first + _RESET_AT_ONCE])
        forget_waits(rerun, frozenset(outdated))
        last_kept = math.inf if named is None else named.step if failed_items_only else -1
        continued = _reset_maps(workflow, rerun, last_kept, at=at)
        _check_own_pools(workflow, rerun)
        _reset_stages(rerun, pool_id=workflow.pool_id)
        workflow.status = WorkflowStatus.RUNNING.value
        workflow.error = ""
        workflow.result = None
        workflow.deadline_at = deadline_of(workflow)
        workflow.stages_completed = sum(stage.status == StageStatus.COMPLETED for stage in stages)
        # Before the row is saved, which sends `workflow_started`.
        what = {"from_stage": from_stage, "failed_items_only": failed_items_only, "stages": rerun}
        signals.workflow_retried.send(sender=Workflow, workflow=workflow, **what, at=at)
        workflow.save_locked(at=at, update_fields=["status", "error", "result", "deadline_at", "stages_completed"])
        for stage_map in continued:
            queue_step(continue_items(stage_map.stage, stage_map, at=at), at=at)
        queue_step(advance(workflow, at=at), at=at)
    return workflow


def _check_own_pools(workflow: Workflow, stages: list[Stage]) -> None:
    """Check that the own pools of these stages are not closed.

    Raises:
        PoolNotAccepting
    """
    if workflow.own_pools:
        needed = {stage.stage_plan.pool for stage in stages}
        for pool_id in Pool.objects.filter(pk__in=needed, status=PoolStatus.CLOSED).values_list("pk", flat=True):
            raise PoolNotAccepting(pool_id, PoolStatus.CLOSED, "stages")


def _check_may_retry(workflow: Workflow, from_stage: str | None) -> None:
    if workflow.status not in FINISHED_WORKFLOW_STATUSES:
        rule = "only a finished workflow can be retried"
    elif workflow.status == WorkflowStatus.COMPLETED and from_stage is None:
        rule = "name the stage to repeat from"
    else:
        return
    raise IllegalTransition("workflow", workflow.pk, workflow.status, WorkflowStatus.RUNNING, rule)


def _named_stage(workflow: Workflow, stages: list[Stage], from_stage: str | None) -> Stage | None:
    if from_stage is None:
        return None
    for stage in stages:
        if stage.name == from_stage and not stage.hosted:
            return stage
    raise row_locks.StageNotFound(workflow.pk, from_stage)


def _check_failed_items(workflow: Workflow, stage: Stage) -> None:
    """Check that a stage has items that failed or had not ended.

    Raises:
        NoFailedItems
    """
    of_stage = Stage.objects.filter(item_of=stage.pk, status__in=ITEM_STATUSES_TO_RESET)
    unstored = StageMap.objects.filter(pk=stage.pk, stored__lt=F("total"))
    if not of_stage.exists() and not unstored.exists():
        raise NoFailedItems(workflow.pk, stage.name, has_items=stage.stage_plan.each is not None)


def _stages_to_rerun(stages: list[Stage], named: Stage | None) -> list[Stage]:
    repeated = [stage for stage in stages if stage.status not in _ENDED_WELL]
    if named is not None:
        repeated += [stage for stage in stages if stage == named or stage.step > named.step]
    # A stage that was skipped before them has ended: it must not run beside the items of a later step.
    first_step = min((stage.step for stage in repeated), default=0)
    skipped = [stage for stage in stages if stage.status == StageStatus.SKIPPED and stage.step >= first_step]
    rerun = {stage.pk for stage in (*repeated, *skipped)}
    return [stage for stage in stages if stage.pk in rerun]


def _outdated(rerun: list[Stage]) -> list[int]:
    """Return the primary keys of the stages that begin anew, before all are reset.

    Those are the completed stages and, because their input may change, the stages of later steps. Another stage
    continues where it ended: it keeps its steps, its answers and its sub-runs.
    """
    first_step = min((stage.step for stage in rerun if stage.status == StageStatus.COMPLETED), default=None)
    if first_step is None:
        return []
    return [stage.pk for stage in rerun if stage.status == StageStatus.COMPLETED or stage.step > first_step]


def _reset_maps(workflow: Workflow, rerun: list[Stage], last_kept: float, *, at: datetime) -> list[StageMap]:
    """Remove the items of stages that run again as a whole. Return the other maps, with their items reset.

    Args:
        workflow: The workflow.
        rerun: The stages that run again.
        last_kept: The last step whose stages keep the items that have completed.
        at: The time of the change.
    """
    maps = StageMap.objects.filter(stage__workflow_id=workflow.pk, stage__in=rerun).select_related("stage")
    continued: list[StageMap] = []
    for stage_map in maps.order_by("pk"):
        stage_map.stage.workflow = workflow
        if stage_map.stage.step <= last_kept:
            forget_waits_of_items(stage_map)
            reset_items(stage_map)
            continued.append(stage_map)
        else:
            remove_items(stage_map, at=at)
    return continued


def _reset_stages(stages: list[Stage], *, pool_id: str | None) -> None:
    """Make finished stages of a workflow pending again, with a number of statements for `_RESET_AT_ONCE` stages."""
    # Pool counters stay: a finished workflow has no queued or running stage, and totals never go down.
    groups: dict[tuple[str | None, int], list[int]] = {}
    for stage in stages:
        max_attempts = stage.stage_plan.retries.max_attempts
        stage.status = StageStatus.PENDING.value
        stage.last_attempt = stage.attempt + max_attempts
        groups.setdefault((pool_of(stage.stage_plan, pool_id), max_attempts), []).append(stage.pk)
    for (pool_of_stages, max_attempts), pks in groups.items():
        for first in range(0, len(pks), _RESET_AT_ONCE):
            Stage.objects.filter(pk__in=pks[first : first + _RESET_AT_ONCE]).update(
                **UNSTARTED,
                pool_id=pool_of_stages,
                last_attempt=F("attempt") + max_attempts,
            )
