"""Start sub-runs, and cancel those of a run that has ended."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from django.db import transaction

from orchestration.models import FINISHED_WORKFLOW_STATUSES, Workflow, WorkflowStatus
from orchestration.plan import Plan
from orchestration.services import validation
from orchestration.services.row_locks import WorkflowNotFound, lock_workers_of_run, lock_workflow
from orchestration.services.run_retries import retry_run
from orchestration.services.runs import start_run
from orchestration.services.sub_run_links import ParentAttempt, lock_parent
from orchestration.services.transitions import IllegalTransition
from orchestration.services.workflows import change_locked_workflow

CANCELLED_AT_ONCE: Final = 100
"""Sub-runs of one run that one call cancels at most, each in its own transaction."""


def start_sub_run(plan: Plan, *, parent: ParentAttempt, at: datetime | None = None, **arguments: Any) -> Workflow:
    """Start a run for a stage, as `start_run` does, or find the sub-run of this name that the stage has.

    A sub-run that was started before and has failed, was cancelled or timed out is retried: the stage runs again.

    Raises:
        ServiceError: what `start_run` and `retry_run` raise.
    """
    workflow = start_run(plan, parent=parent, at=at, **arguments)
    if workflow.status not in FINISHED_WORKFLOW_STATUSES or workflow.status == WorkflowStatus.COMPLETED:
        return workflow
    try:
        with transaction.atomic():
            # The sub-run before its parent, which may have ended meanwhile: then nothing would cancel the sub-run.
            lock_workers_of_run(workflow.pk)
            lock_workflow(workflow.pk)
            lock_parent(parent)
            return retry_run(workflow_id=workflow.pk, at=at)
    except IllegalTransition:
        return Workflow.objects.get(pk=workflow.pk)  # Another client has just retried it.


def cancel_sub_runs(parent_id: str, *, at: datetime | None = None) -> int:
    """Cancel the next sub-runs of a run that has failed, was cancelled or timed out. Return how many were changed.

    Detached ones are left out. Each is cancelled in its own transaction, and leaves its own sub-runs to a later call.
    """
    at = validation.timestamp(at)
    unfinished = Workflow.objects.filter(parent_id=parent_id, finished_at=None, detached=False).order_by("pk")
    run_ids = list(unfinished.values_list("pk", flat=True)[:CANCELLED_AT_ONCE])
    cancelled = sum(_cancel_orphan(run_id, parent_id, at=at) for run_id in run_ids)
    if len(run_ids) < CANCELLED_AT_ONCE:
        with transaction.atomic():
            ended = Workflow.objects.select_for_update(no_key=True).filter(pk=parent_id, children_due_at__isnull=False)
            # A run that ends starts no more sub-runs.
            if ended.exists() and not unfinished.exists():
                Workflow.objects.filter(pk=parent_id).update(children_due_at=None)
    return cancelled


def _cancel_orphan(run_id: str, parent_id: str, *, at: datetime) -> bool:
    with transaction.atomic():
        try:
            workflow = lock_workflow(run_id)
            parent = lock_workflow(parent_id)
        except WorkflowNotFound:
            return False
        # The parent may have been retried meanwhile: then it has its sub-runs again.
        if workflow.finished_at is not None or parent.children_due_at is None:
            return False
        reason = f"Its parent {parent_id} has status {parent.status}"
        change_locked_workflow(workflow, WorkflowStatus.CANCELLED, at=at, error=reason)
    return True
