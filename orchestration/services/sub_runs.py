"""Start sub-runs, and cancel those of a run that has ended."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import QuerySet

from orchestration.models import FINISHED_WORKFLOW_STATUSES, Workflow, WorkflowStatus
from orchestration.plan import Plan
from orchestration.services import validation
from orchestration.services.row_locks import WorkflowNotFound, lock_workers_of_run, lock_workflow
from orchestration.services.run_retries import retry_run
from orchestration.services.runs import start_run
from orchestration.services.sub_run_links import ParentAttempt, lock_parent
from orchestration.services.transitions import IllegalTransition
from orchestration.services.workflows import change_locked_workflow


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


def sub_runs_to_cancel(parent_ids: Collection[str]) -> QuerySet[Workflow]:
    """Return the unfinished sub-runs of runs that have failed, were cancelled or timed out, without detached ones."""
    return Workflow.objects.filter(parent__in=parent_ids, finished_at=None, detached=False)


def cancel_sub_run(run_id: str, *, at: datetime | None = None) -> bool:
    """Cancel a sub-run of a run that has failed, was cancelled or timed out. Return False if that is no longer so.

    Its own sub-runs are left to later calls.
    """
    at = validation.timestamp(at)
    with transaction.atomic():
        try:
            workflow = lock_workflow(run_id)
            parent = lock_workflow(workflow.parent_id or "")
        except WorkflowNotFound:
            return False
        # The parent may have been retried meanwhile: then it has its sub-runs again.
        if workflow.finished_at is not None or parent.children_due_at is None:
            return False
        reason = f"Its parent {parent.pk} has status {parent.status}"
        change_locked_workflow(workflow, WorkflowStatus.CANCELLED, at=at, error=reason)
    return True


def end_cancellation(parent_id: str) -> bool:
    """Note that all sub-runs of a run have ended which were to be cancelled. Return False if some have not."""
    if sub_runs_to_cancel([parent_id]).exists():
        return False
    with transaction.atomic():
        ended = Workflow.objects.select_for_update(no_key=True).filter(pk=parent_id, children_due_at__isnull=False)
        # A run that ends starts no more sub-runs.
        if not ended.exists() or sub_runs_to_cancel([parent_id]).exists():
            return False
        Workflow.objects.filter(pk=parent_id).update(children_due_at=None)
    return True
