"""Update the unfinished stages of a workflow that finishes or moves to another pool."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from django.db.models import QuerySet

from orchestration.db.compiled import CompiledSelect
from orchestration.models.pool_counters import PoolCounterDelta
from orchestration.models.stage import Stage
from orchestration.models.statuses import (
    FINISHED_WORKFLOW_STATUSES,
    StageStatus,
    WaitStatus,
    WorkflowStatus,
)
from orchestration.models.tracked import TrackedState
from orchestration.models.unit_of_work import current_unit
from orchestration.models.wait import Wait
from orchestration.models.workflow import Workflow

# Compiled, because it runs at the end of every workflow and mostly finds nothing.
_UNFINISHED_STAGES: Final[CompiledSelect[Stage]] = CompiledSelect(
    lambda workflow_id: (
        Stage.objects.filter(workflow_id=workflow_id, finished_at=None)
        .select_for_update(no_key=True)
        .order_by("pk")
        .only("pk", "status", "pool_id")
    ),
    str,
)

_ENDED: Final = {
    **dict.fromkeys(("retry_at", "dispatch_due_at", "refused_until", "lease_expires_at")),
    "held": False,
}


def settle_stages(workflow: Workflow, before: TrackedState, after: TrackedState, *, at: datetime, using: str) -> None:
    """Finish the stages of a workflow that has just finished, or move its unstarted stages to its new pool.

    Takes a constant number of queries, however many stages there are.
    """
    delta = PoolCounterDelta()
    if after.status in FINISHED_WORKFLOW_STATUSES:
        if before.status not in FINISHED_WORKFLOW_STATUSES:
            _finish_stages(workflow, after.status, delta, at=at, using=using)
    elif before.pool_id != after.pool_id:
        _move_stages(workflow, after.pool_id, delta, using=using)
    delta.write(at=at, using=using)


def _finish_stages(
    workflow: Workflow, workflow_status: str, delta: PoolCounterDelta, *, at: datetime, using: str
) -> None:
    status = StageStatus.SKIPPED if workflow_status == WorkflowStatus.COMPLETED else StageStatus.CANCELLED
    changes: dict[str, Any] = {**_ENDED, "status": status.value, "finished_at": at}
    if (unit := current_unit()) is not None:
        for stage in unit.unfinished_stages(workflow.pk):
            delta.add_stage(stage.pool_id, stage.status, -1)
            for column, value in changes.items():
                setattr(stage, column, value)
            unit.update(stage, changes)
        return
    if stages := _UNFINISHED_STAGES.rows(workflow.pk, using=using):
        workflow.stages.using(using).filter(finished_at=None).update(**changes)
    if any(stage.status == StageStatus.WAITING for stage in stages):
        open_waits = Wait.objects.using(using).open().filter(workflow_id=workflow.pk)
        open_waits.update(status=WaitStatus.CLOSED, due_at=None)
    for stage in stages:
        delta.add_stage(stage.pool_id, stage.status, -1)


def _move_stages(workflow: Workflow, pool_id: str | None, delta: PoolCounterDelta, *, using: str) -> None:
    unfinished = workflow.stages.using(using).filter(finished_at=None)
    # Those that wait come back to a pool, or have items to queue.
    not_running = unfinished.filter(status__in=[StageStatus.PENDING, StageStatus.QUEUED, StageStatus.WAITING])
    if workflow.own_pools:
        not_running = not_running.filter(plan__pool__isnull=True)
    if locked := _lock(not_running):
        not_running.update(pool=pool_id)
    for status, old_pool_id in locked:
        delta.add_stage(old_pool_id, status, -1)
        delta.add_stage(pool_id, status, 1)


def _lock(stages: QuerySet[Stage]) -> list[tuple[str, str | None]]:
    """Lock the stages in the order of their ids, and return the status and the pool of each."""
    return list(stages.select_for_update(no_key=True).order_by("pk").values_list("status", "pool_id"))
