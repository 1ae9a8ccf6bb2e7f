"""Queue stages whose retry is due, and schedule the redispatch of queued stages whose message may be lost."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from django.db import connection, transaction

from orchestration.limits import engine_limits
from orchestration.models import Pool, PoolStatus, Stage, StageStatus, WorkflowStatus
from orchestration.models.pool_counters import batched_counters
from orchestration.services import validation
from orchestration.services.advance import queue_stages
from orchestration.services.attempt_failures import fail_run
from orchestration.services.pools import PoolNotAccepting
from orchestration.services.row_locks import lock_stage_by_id


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


def delay_redispatch(stage_ids: Collection[int], *, now: datetime) -> None:
    """Check these queued stages again after `redispatch_seconds`; `now` is database time.

    Rows locked by another transaction are skipped: it sets their due time itself. The stages belong to many workflows:
    waiting for their locks could deadlock.
    """
    queued = Stage.objects.filter(pk__in=stage_ids, status=StageStatus.QUEUED).order_by("pk")
    with transaction.atomic():
        if connection.features.has_select_for_update_skip_locked:
            queued = queued.select_for_update(no_key=True, skip_locked=True)
        due_at = now + timedelta(seconds=engine_limits().redispatch_seconds)
        Stage.objects.filter(pk__in=list(queued.values_list("pk", flat=True))).update(dispatch_due_at=due_at)


def missing_messages(pool_id: str, *, held: int | None) -> int | None:
    """Return how many queued stages of a pool have no message in the broker, which holds `held`; None if unknown."""
    if held is None:
        return None
    queue_size = Pool.objects.filter(pk=pool_id).values_list("queue_size", flat=True).first() or 0
    return max(0, queue_size - held)
