"""Move unfinished workflows from one pool to another."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from orchestration.models import FINISHED_WORKFLOW_STATUSES, StageStatus, Workflow
from orchestration.models.pool_counters import batched_counters
from orchestration.services import row_locks, validation
from orchestration.services.dispatch_window import fill_windows, mark_undispatched
from orchestration.services.holds import end_hold
from orchestration.services.pools import (
    NEW_WORKFLOWS,
    check_pool_accepts_workflows,
    check_pool_exists,
    reject_closed_pool,
    reject_removed_pool,
)
from orchestration.services.transitions import IllegalTransition


def reassign_workflow(*, workflow_id: str, to_pool_id: str, at: datetime | None = None) -> Workflow:
    """Move an unfinished workflow, with its stages that have not started, to another pool.

    Running stages stay, and those that have an own pool.

    A hold ends: whether the workers of the other pool can take the run is not known yet.

    Raises:
        InvalidIdentifier, WorkflowNotFound, PoolNotFound
        IllegalTransition: if the workflow is finished.
        PoolNotAccepting: if the other pool is not active.
    """
    at = validation.timestamp(at)
    check_pool_accepts_workflows(to_pool_id)
    with (
        reject_removed_pool(to_pool_id),
        reject_closed_pool(NEW_WORKFLOWS),
        transaction.atomic(),
        batched_counters(at=at),
    ):
        workflow = row_locks.lock_workflow(workflow_id)
        if workflow.status in FINISHED_WORKFLOW_STATUSES:
            rule = "only an unfinished workflow can be moved"
            raise IllegalTransition("workflow", workflow_id, workflow.status, workflow.status, rule)
        if workflow.pool_id != to_pool_id:
            end_hold(workflow, at=at)
        workflow.mark_locked()
        workflow.pool_id = to_pool_id
        workflow.save_locked(at=at, update_fields=["pool"])
        if workflow.plan is not None:
            # Messages in the old queue have no effect: its workers cannot claim stages of another pool.
            queued = workflow.stages.filter(status=StageStatus.QUEUED, pool_id=to_pool_id)
            if queued.update(dispatch_due_at=None, refused_until=None):
                mark_undispatched(workflow, True)
                fill_windows(workflow)
    return workflow


def reassign_workflows(*, pool_id: str, to_pool_id: str, at: datetime | None = None) -> int:
    """Move every unfinished workflow of a pool, each in a separate transaction, and return their number.

    Raises:
        InvalidIdentifier, PoolNotFound
        PoolNotAccepting: if the other pool is not active.
    """
    check_pool_exists(pool_id)
    check_pool_accepts_workflows(to_pool_id)
    moved = 0
    unfinished = Workflow.objects.filter(pool_id=pool_id, finished_at=None).order_by("created_at")
    for workflow_id in list(unfinished.values_list("pk", flat=True)):
        try:
            reassign_workflow(workflow_id=workflow_id, to_pool_id=to_pool_id, at=at)
        except (IllegalTransition, row_locks.WorkflowNotFound):
            continue  # It has just finished or was deleted.
        moved += 1
    return moved
