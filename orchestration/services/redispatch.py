"""Stages that wait: for the moment of their next attempt, or for a message that got lost."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta

from django.db import connection, transaction
from django.db.models import QuerySet

from orchestration.limits import engine_limits
from orchestration.models import Pool, Stage, StageStatus, WorkflowStatus
from orchestration.models.pool_counters import batched_counters
from orchestration.services import validation
from orchestration.services.advance import queue_stages
from orchestration.services.attempts import lock_stage_by_id


def queue_retry(stage_id: int, *, due_before: datetime, at: datetime | None = None) -> bool:
    """Queue a stage whose next attempt is due, by the clock of the database. False if it is not, or not any more."""
    at = validation.moment(at)
    with transaction.atomic(), batched_counters(at=at):
        stage = lock_stage_by_id(stage_id)
        if stage is None or stage.status != StageStatus.PENDING or stage.workflow.status != WorkflowStatus.RUNNING:
            return False
        if stage.retry_at is None or stage.retry_at > due_before:
            return False
        queue_stages([stage], at=at)
    return True


_ROWS_PER_STATEMENT = 1000
TRUSTED_TIMES = 12
"""How many times as long queued stages are left to a broker that has a message for each of their pool."""


def delay_redispatch(stage_ids: Collection[int], *, now: datetime) -> None:
    """Look at these queued stages again later, by the clock of the database."""
    _look_again(stage_ids, now=now, times=1)


def extend_redispatch(stage_ids: Sequence[int], *, now: datetime) -> None:
    """Leave queued stages of one pool, the longest due first, to the broker, which lacks none of its messages.

    The last is looked at again as soon as any: it stands for the others and is not the next to be claimed, so that to
    have ten thousand of them wait costs next to nothing.
    """
    _look_again(stage_ids[-1:], now=now, times=1)
    _look_again(stage_ids[:-1], now=now, times=TRUSTED_TIMES)


def recheck_pool(pool_id: str, *, now: datetime) -> None:
    """Look now at the queued stages of a pool that were left to the broker: it lacks more messages than are due.

    Those that are looked at before long anyway stay as they are: they were told a moment ago.
    """
    soon = now + timedelta(seconds=engine_limits().redispatch_seconds)
    _set_due(Stage.objects.filter(pool_id=pool_id, dispatch_due_at__gt=soon), now)


def _look_again(stage_ids: Collection[int], *, now: datetime, times: int) -> None:
    if stage_ids:
        later = now + times * timedelta(seconds=engine_limits().redispatch_seconds)
        _set_due(Stage.objects.filter(pk__in=stage_ids), later)


def _set_due(stages: QuerySet[Stage], due_at: datetime) -> None:
    """Set the moment of those that are queued and that nobody changes just now: who does, sets it himself.

    They are of many workflows, so that to wait for their locks could be to wait for each other.
    """
    queued = stages.filter(status=StageStatus.QUEUED).order_by("pk")
    with transaction.atomic():
        if connection.features.has_select_for_update_skip_locked:
            queued = queued.select_for_update(no_key=True, skip_locked=True)
        locked = list(queued.values_list("pk", flat=True))
        for first in range(0, len(locked), _ROWS_PER_STATEMENT):
            part = locked[first : first + _ROWS_PER_STATEMENT]
            Stage.objects.filter(pk__in=part).update(dispatch_due_at=due_at)


def missing_messages(pool_id: str, *, held: int | None) -> int | None:
    """How many queued stages of a pool have no message in the broker, which holds so many; None if it does not say."""
    if held is None:
        return None
    queue_size = Pool.objects.filter(pk=pool_id).values_list("queue_size", flat=True).first() or 0
    return max(0, queue_size - held)
