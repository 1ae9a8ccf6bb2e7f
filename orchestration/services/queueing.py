"""Stages that wait: for the moment of their next attempt, or for a message that got lost."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from django.db import transaction

from orchestration.engine.limits import engine_limits
from orchestration.models import Pool, Stage, StageStatus, WorkflowStatus
from orchestration.models.pool_counts import counted_together
from orchestration.services import arguments
from orchestration.services.attempts import lock_stage
from orchestration.services.runs import queue_stages


def queue_retry(stage_id: int, *, due_before: datetime, at: datetime | None = None) -> bool:
    """Queue a stage whose next attempt is due, by the clock of the database. False if it is not, or not any more."""
    at = arguments.moment(at)
    with transaction.atomic(), counted_together(at=at):
        stage = lock_stage(stage_id)
        if stage is None or stage.status != StageStatus.PENDING or stage.workflow.status != WorkflowStatus.RUNNING:
            return False
        if stage.retry_at is None or stage.retry_at > due_before:
            return False
        queue_stages([stage], at=at)
    return True


TRUSTED_TIMES = 12
"""How many times as long queued stages are left to a broker that has a message for each of their pool."""


def postpone_dispatch(stage_ids: Collection[int], *, now: datetime) -> None:
    """Look at these queued stages again later, by the clock of the database."""
    _look_again(stage_ids, now=now, times=1)


def trust_broker(stage_ids: Sequence[int], *, now: datetime) -> None:
    """Leave queued stages of one pool to the broker, which lacks none of its messages.

    The first is looked at again as soon as any: it stands for the others, so that to have ten thousand of them wait
    costs next to nothing.
    """
    _look_again(stage_ids[:1], now=now, times=1)
    _look_again(stage_ids[1:], now=now, times=TRUSTED_TIMES)


def doubt_broker(pool_id: str, *, now: datetime) -> None:
    """Look at every queued stage of a pool now: the broker lacks more messages than there are stages due."""
    Stage.objects.filter(pool_id=pool_id, status=StageStatus.QUEUED, dispatch_due_at__gt=now).update(
        dispatch_due_at=now
    )


def _look_again(stage_ids: Collection[int], *, now: datetime, times: int) -> None:
    later = now + times * timedelta(seconds=engine_limits().redispatch_seconds)
    if stage_ids:
        Stage.objects.filter(pk__in=stage_ids, status=StageStatus.QUEUED).update(dispatch_due_at=later)


def missing_messages(pool_id: str, *, held: int | None) -> int | None:
    """How many queued stages of a pool have no message in the broker, which holds so many; None if it does not say."""
    if held is None:
        return None
    queue_size = Pool.objects.filter(pk=pool_id).values_list("queue_size", flat=True).first() or 0
    return max(0, queue_size - held)
