"""How often the metrics of a pool are told: at most ten times a second, and the last value always.

A change that comes too soon after the last announcement is left to the scheduler, which announces what is then true.
While none runs, nobody could: then every change is announced at once.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any, Final

from django.db import transaction
from django.db.models import Subquery
from django.db.models.functions import Now
from django.utils import timezone

from orchestration import signals
from orchestration.db.clock import database_now
from orchestration.db.compiled import CompiledSelect
from orchestration.limits import engine_limits
from orchestration.models import Pool, SchedulerHeartbeat

SCHEDULER_TIMEOUT_SECONDS = 2.0
"""A scheduler that was not heard of for so long is not counted on."""


def pools_to_publish(pool_ids: Collection[str]) -> list[Pool]:
    """Of pools whose metrics changed in this transaction, return those to announce now; the others are told later.

    The pools are locked already: their counters moved. Takes one query for each: a transaction seldom has two.
    """
    interval = timedelta(seconds=engine_limits().pool_status_interval_seconds)
    patience = timedelta(seconds=SCHEDULER_TIMEOUT_SECONDS)
    told: list[Pool] = []
    unlimited: list[Pool] = []
    pool: Any  # with what is annotated
    for pool in filter(None, map(_POOL_AND_SCHEDULER.row, sorted(pool_ids))):
        if pool.scheduler_heartbeat_at is None or pool.now - pool.scheduler_heartbeat_at > patience:
            unlimited.append(pool)
        elif pool.metrics_published_at is None or not timedelta() <= pool.now - pool.metrics_published_at < interval:
            told.append(pool)
    if told:
        Pool.objects.filter(pk__in=[pool.pk for pool in told]).update(
            metrics_published_at=Now(), metrics_dirty_since=None
        )
    return [*told, *unlimited]


_POOL_AND_SCHEDULER: Final = CompiledSelect(
    lambda pk: Pool.objects.filter(pk=pk).annotate(
        now=Now(), scheduler_heartbeat_at=Subquery(SchedulerHeartbeat.objects.filter(pk=1).values("heartbeat_at")[:1])
    ),
    str,
)


def publish_pool_metrics(pool_id: str) -> bool:
    """Announce the metrics of a pool that were left to the scheduler; False if somebody else did."""
    with transaction.atomic():
        pools = Pool.objects.select_for_update(no_key=True).filter(pk=pool_id, metrics_dirty_since__isnull=False)
        if pools.first() is None:
            return False
        signals.pool_metrics_changed.send(sender=Pool, pool_id=pool_id, at=timezone.now())
    return True


def record_scheduler_heartbeat(*, alive: bool) -> None:
    """Say that a scheduler runs, or that one has stopped; if another runs, it says so itself before long."""
    heartbeat_at = database_now() if alive else None
    if not SchedulerHeartbeat.objects.filter(pk=1).update(heartbeat_at=heartbeat_at):
        SchedulerHeartbeat.objects.update_or_create(pk=1, defaults={"heartbeat_at": heartbeat_at})
