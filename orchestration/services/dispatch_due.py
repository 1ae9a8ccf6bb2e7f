"""Queue stages whose retry is due, continue stalled runs, and schedule the redispatch of queued stages."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Q, QuerySet

from orchestration.db.clock import database_now
from orchestration.db.postgres_session import lock_if_free
from orchestration.limits import engine_limits
from orchestration.models import Pool, PoolStatus, Stage, StageStatus, Workflow, WorkflowStatus
from orchestration.models.pool_counters import batched_counters
from orchestration.services import validation
from orchestration.services.advance import advance, queue_stages, queue_step
from orchestration.services.attempt_failures import fail_run, stage_failed
from orchestration.services.dispatch_window import (
    MAX_NARROW_STAGES,
    dispatch_queued,
    fill_windows,
    mark_undispatched,
)
from orchestration.services.holds import MAX_REFUSED_SECONDS
from orchestration.services.pools import PoolNotAccepting, reject_closed_pool
from orchestration.services.row_locks import lock_stage_by_id, lock_workflow


def queue_retry(stage_id: int, *, due_before: datetime, at: datetime | None = None) -> bool:
    """Queue a stage whose next attempt was due before this database time. Return False if it is not due.

    If its pool is closed, the stage and its workflow fail instead.
    """
    at = validation.timestamp(at)
    with transaction.atomic(), batched_counters(at=at):
        stage = lock_stage_by_id(stage_id)
        if stage is None or stage.status != StageStatus.PENDING or stage.workflow.status != WorkflowStatus.RUNNING:
            return False
        if stage.retry_at is None or stage.retry_at > due_before:
            return False
        if stage.pool is not None and stage.pool.status == PoolStatus.CLOSED:
            # `close_pool` rejects a pool with pending retries, but a workflow may move to a pool while that closes.
            fail_run(stage, error=str(PoolNotAccepting(stage.pool.pk, PoolStatus.CLOSED, "stages")), at=at)
        else:
            queue_stages([stage], at=at)
    return True


def continue_stalled_run(workflow_id: str, *, at: datetime | None = None) -> bool:
    """Continue a running workflow of the engine in which nothing is queued, running or waiting for a retry.

    No service leaves a run in that state; a change by other means, such as SQL, may. If one of its stages has failed,
    the run fails. Otherwise its next step is queued or, after the last one, the run is completed.

    Returns:
        False if the run is not in that state.
    """
    at = validation.timestamp(at)
    with reject_closed_pool("stages"), transaction.atomic(), batched_counters(at=at):
        workflow = lock_workflow(workflow_id)
        if workflow.status != WorkflowStatus.RUNNING or workflow.plan is None:
            return False
        stages = workflow.stages.filter(hosted=False)
        if stages.filter(HAS_WORK).exists():
            return False
        if (failed := stages.filter(status=StageStatus.FAILED).order_by("position").first()) is not None:
            workflow.status = WorkflowStatus.FAILED.value
            workflow.error = stage_failed(failed.name, failed.error)
            workflow.save_locked(at=at, update_fields=["status", "error"])
        else:
            queue_step(advance(workflow, at=at), at=at)
    return True


HAS_WORK: Final = (
    Q(status__in=[StageStatus.QUEUED, StageStatus.RUNNING])
    | Q(status=StageStatus.PENDING, retry_at__isnull=False)
    | Q(status=StageStatus.WAITING, map__isnull=True)
)
"""The stages for which something will happen: a claim, an end, a retry, the end of a wait or of a sub-run."""


def delay_redispatch(stage_ids: Collection[int], *, now: datetime) -> None:
    """Check these queued stages again after `redispatch_seconds`; `now` is database time.

    Rows locked by another transaction are skipped: it sets their due time itself. The stages belong to many workflows:
    waiting for their locks could deadlock.
    """
    dispatched = Stage.objects.filter(pk__in=stage_ids, status=StageStatus.QUEUED, dispatch_due_at__isnull=False)
    with transaction.atomic():
        queued = lock_if_free(dispatched.order_by("pk"))
        due_at = now + timedelta(seconds=engine_limits().redispatch_seconds)
        Stage.objects.filter(pk__in=list(queued.values_list("pk", flat=True))).update(dispatch_due_at=due_at)


def dispatch_refused(stage_ids: Collection[int], *, now: datetime) -> int:
    """Dispatch these queued stages if they were refused until this database time at most.

    The stages of a wide run wait for places in its window, with all others of the run that were refused so long.
    Rows locked by another transaction are skipped, as by `delay_redispatch()`. Return how many are no longer refused.
    """
    refused = Stage.objects.filter(status=StageStatus.QUEUED, refused_until__lte=now)
    narrow, wide = [], set()
    runs = refused.filter(pk__in=stage_ids).values_list("pk", "workflow_id", "workflow__total_stages")
    for stage_id, workflow_id, total_stages in runs:
        if total_stages <= MAX_NARROW_STAGES:
            narrow.append(stage_id)
        else:
            wide.add(workflow_id)
    with transaction.atomic():
        stages = list(lock_if_free(refused.filter(pk__in=narrow).order_by("pk")).only("pk", "attempt", "pool_id"))
        dispatch_queued(stages)
    return len(stages) + sum(_dispatch_refused_of(workflow_id, refused) for workflow_id in sorted(wide))


def _dispatch_refused_of(workflow_id: str, refused: QuerySet[Stage]) -> int:
    """Let the window of a wide run dispatch its refused stages, after its others. Return how many are in their turn."""
    due = refused.filter(workflow_id=workflow_id)
    with transaction.atomic():
        workflow = lock_if_free(Workflow.objects.filter(pk=workflow_id)).first()
        if workflow is None:
            return 0
        if workflow.has_undispatched_stages:
            fill_windows(workflow)
        if workflow.has_undispatched_stages:
            # In the order of their positions, refused stages could fill the window each time.
            due.update(refused_until=database_now() + timedelta(seconds=MAX_REFUSED_SECONDS))
            return 0
        if count := due.update(refused_until=None):
            mark_undispatched(workflow, True)
            fill_windows(workflow)
    return count


def missing_messages(pool_id: str, *, held: int | None) -> int | None:
    """Return how many dispatched stages of a pool lack a message in the broker, which holds `held`; None if unknown."""
    if held is None:
        return None
    # The counter includes undispatched stages, and those of external orchestrators. Mostly no count is needed.
    queue_size = Pool.objects.filter(pk=pool_id).values_list("queue_size", flat=True).first() or 0
    if queue_size <= held:
        return 0
    dispatched = Stage.objects.filter(pool_id=pool_id, status=StageStatus.QUEUED, dispatch_due_at__isnull=False)
    return max(0, dispatched.count() - held)
