"""Publish pool metrics: at most one event of a pool in `pool_status_interval_seconds`, and always the last value.

If a change follows the last event too closely, the scheduler publishes the metrics later, with the values at that later
time. While no scheduler runs, every change is published at once, because nothing could publish it later.
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
from orchestration.db import before_commit
from orchestration.db.clock import database_now
from orchestration.db.compiled import CompiledSelect
from orchestration.db.postgres_session import lock_if_free
from orchestration.limits import engine_limits
from orchestration.models import Pool, SchedulerHeartbeat
from orchestration.models.pool_counters import PoolCountersMoved

SCHEDULER_TIMEOUT_SECONDS = 10.0
"""Without a heartbeat for this long, the scheduler is considered stopped. The longest interval is a tenth of it.

On SQLite, with two workers on a busy machine, a heartbeat waited 2.0 s for the write lock and came after 2.6 s.
"""

_MAX_POOLS_AT_STOP: Final = 1000
"""The pools whose throttled metrics a stop publishes. Those of others are published with their next change."""


def install() -> None:
    """Send `pool_metrics_changed` just before the commit, once for each pool whose counters moved.

    All changes of one transaction cause one event, with the values at its end.
    """
    before_commit.install(PoolCountersMoved, _send_metrics_changed, phase=before_commit.Phase.SUMMARIZE)


def _send_metrics_changed(moved: list[PoolCountersMoved]) -> None:
    moved_at = {item.pool_id: item.at for item in moved}
    for pool in _pools_to_publish(moved_at):
        signals.pool_metrics_changed.send(sender=Pool, pool=pool, at=moved_at[pool.pk])


def _pools_to_publish(pool_ids: Collection[str]) -> list[Pool]:
    """Return the pools to publish now; the scheduler publishes the others later.

    The transaction holds the locks of these pools, because it moved their counters. This takes one query for each pool;
    a transaction seldom changes two.
    """
    interval = timedelta(seconds=engine_limits().pool_status_interval_seconds)
    scheduler_timeout = timedelta(seconds=SCHEDULER_TIMEOUT_SECONDS)
    due: list[Pool] = []
    unthrottled: list[Pool] = []
    pool: Any  # It has annotations.
    for pool in filter(None, map(_POOL_AND_SCHEDULER.row, sorted(pool_ids))):
        if pool.metrics_reported:
            continue
        if pool.scheduler_heartbeat_at is None or pool.now - pool.scheduler_heartbeat_at > scheduler_timeout:
            unthrottled.append(pool)
        elif pool.metrics_published_at is None or not timedelta() <= pool.now - pool.metrics_published_at < interval:
            due.append(pool)
    if due:
        Pool.objects.filter(pk__in=[pool.pk for pool in due]).update(
            metrics_published_at=Now(), metrics_dirty_since=None
        )
    return [*due, *unthrottled]


_POOL_AND_SCHEDULER: Final = CompiledSelect(
    lambda pk: Pool.objects.filter(pk=pk).annotate(
        now=Now(), scheduler_heartbeat_at=Subquery(SchedulerHeartbeat.objects.filter(pk=1).values("heartbeat_at")[:1])
    ),
    str,
)


def publish_pool_metrics(pool_id: str) -> bool:
    """Publish the throttled metrics of a pool. Return False if they are published already, or if the pool is locked."""
    with transaction.atomic():
        pools = Pool.objects.filter(pk=pool_id, metrics_dirty_since__isnull=False)
        # A transaction that holds the pool moves its counters: it publishes them, or leaves them to the next pass.
        if lock_if_free(pools).first() is None:
            return False
        before_commit.collect(PoolCountersMoved(pool_id, timezone.now()))
    return True


def record_scheduler_heartbeat(*, alive: bool, stuck_jobs: Collection[str] = ()) -> None:
    """Record that a scheduler runs, and which of its jobs are stuck; or that it has stopped.

    A stop publishes the throttled metrics, which it would have published later. After it, another running scheduler
    soon records its own heartbeat.
    """
    values = {"heartbeat_at": database_now() if alive else None, "stuck_jobs": ",".join(stuck_jobs)}
    if not SchedulerHeartbeat.objects.filter(pk=1).update(**values):
        SchedulerHeartbeat.objects.update_or_create(pk=1, defaults=values)
    if not alive:
        throttled = Pool.objects.filter(metrics_dirty_since__isnull=False).order_by("metrics_dirty_since")
        for pool_id in list(throttled.values_list("pk", flat=True)[:_MAX_POOLS_AT_STOP]):
            publish_pool_metrics(pool_id)
