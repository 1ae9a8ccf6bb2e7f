"""Work that waits in one pool and is to be done in another."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from orchestration.dispatch import dispatch_after_commit
from orchestration.models import FINISHED_WORKFLOW_STATUSES, PoolStatus, StageStatus, Workflow
from orchestration.models.pool_counters import batched_counters
from orchestration.services import locking, validation
from orchestration.services.advance import message_for
from orchestration.services.pools import check_pool_accepts
from orchestration.services.transitions import IllegalTransition


def reassign_workflow(*, workflow_id: str, to_pool_id: str, at: datetime | None = None) -> Workflow:
    """Let what has not begun of an unfinished workflow be done in another pool; stages that run stay where they are.

    Raises:
        InvalidIdentifier, WorkflowNotFound, PoolNotFound
        IllegalTransition: if the workflow is finished.
        PoolNotAccepting: if the other pool is not active.
    """
    at = validation.moment(at)
    check_pool_accepts("new workflows", pool_id=to_pool_id, statuses=[PoolStatus.ACTIVE])
    with transaction.atomic(), batched_counters(at=at):
        workflow = locking.lock_workflow(workflow_id)
        if workflow.status in FINISHED_WORKFLOW_STATUSES:
            raise IllegalTransition("workflow", workflow_id, workflow.status, workflow.status)
        workflow.pool_id = to_pool_id
        workflow.save_locked(at=at, update_fields=["pool"])
        if workflow.plan is not None:
            # What lies in the other queue is refused there: the stage is no longer that pool's.
            queued = workflow.stages.filter(status=StageStatus.QUEUED, pool_id=to_pool_id)
            dispatch_after_commit([message_for(stage) for stage in queued])
    return workflow


def reassign_workflows(*, pool_id: str, to_pool_id: str, at: datetime | None = None) -> int:
    """Move every unfinished workflow of a pool, each in a transaction of its own, and return how many that were.

    Raises:
        InvalidIdentifier, PoolNotFound
        PoolNotAccepting: if the other pool is not active.
    """
    check_pool_accepts("", pool_id=pool_id, statuses=PoolStatus.values)
    check_pool_accepts("new workflows", pool_id=to_pool_id, statuses=[PoolStatus.ACTIVE])
    moved = 0
    unfinished = Workflow.objects.filter(pool_id=pool_id, finished_at=None).order_by("created_at")
    for workflow_id in list(unfinished.values_list("pk", flat=True)):
        try:
            reassign_workflow(workflow_id=workflow_id, to_pool_id=to_pool_id, at=at)
        except (IllegalTransition, locking.WorkflowNotFound):
            continue  # It has just come to its end.
        moved += 1
    return moved
