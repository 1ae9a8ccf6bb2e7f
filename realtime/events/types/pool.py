"""Events of a pool, and its metrics."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Self

import msgspec
from django.dispatch import Signal

from orchestration import signals
from orchestration.models import POOL_COUNTERS, Pool
from realtime.events.types.base import EventData


class PoolMetrics(msgspec.Struct, kw_only=True):
    """The counters of a pool. The first four are from the API reference.

    Attributes:
        active_workers: Workers busy now.
        idle_workers: Workers idle now.
        queue_size: Stages queued for the pool.
        tasks_completed: Stages completed since the pool was created.
        tasks_failed: Stages failed since the pool was created.
        tasks_running: Stages of the pool running now.
        worker_count: Workers registered, in any status.
        error_workers: Workers in error now.
    """

    active_workers: int
    idle_workers: int
    queue_size: int
    tasks_completed: int
    tasks_failed: int = 0
    tasks_running: int = 0
    worker_count: int = 0
    error_workers: int = 0

    @classmethod
    def of(cls, pool: Pool) -> Self:
        """Return the counters of `pool`."""
        return cls(**{counter: getattr(pool, counter) for counter in POOL_COUNTERS})


class PoolEvent(EventData, kw_only=True):
    """An event of one pool."""

    rooms_from: ClassVar[tuple[str, ...]] = ("pool",)
    pool_id: str

    @classmethod
    def from_signal(cls, *, pool: Pool, at: datetime, **_: Any) -> Self:
        return cls._build(pool, pool_id=pool.pk, timestamp=at)


class PoolCreated(PoolEvent, kw_only=True):
    """A pool is created."""

    event: ClassVar[str] = "pool.created"
    signal: ClassVar[Signal] = signals.pool_created

    @classmethod
    def from_signal(cls, *, pool: Pool, at: datetime, **_: Any) -> Self:
        return cls._build_new(pool, pool_id=pool.pk, timestamp=at)


class PoolStatusChanged(PoolEvent, kw_only=True):
    """A pool's metrics change."""

    event: ClassVar[str] = "pool.status_changed"
    signal: ClassVar[Signal] = signals.pool_metrics_changed
    sample: ClassVar[dict[str, Any]] = {
        "status": {"active_workers": 0, "idle_workers": 0, "queue_size": 0, "tasks_completed": 0}
    }
    status: PoolMetrics

    @classmethod
    def from_signal(cls, *, pool: Pool, at: datetime, **_: Any) -> Self:
        return cls(pool_id=pool.pk, status=PoolMetrics.of(pool), timestamp=at)


class PoolDrained(PoolEvent, kw_only=True):
    """A pool accepts no new work."""

    event: ClassVar[str] = "pool.drained"
    signal: ClassVar[Signal] = signals.pool_drained


class PoolReopened(PoolEvent, kw_only=True):
    """A drained pool accepts new work again."""

    event: ClassVar[str] = "pool.reopened"
    signal: ClassVar[Signal] = signals.pool_reopened


class PoolClosed(PoolEvent, kw_only=True):
    """A pool is closed permanently."""

    event: ClassVar[str] = "pool.closed"
    signal: ClassVar[Signal] = signals.pool_closed


class PoolRemoved(PoolEvent, kw_only=True):
    """A pool is removed."""

    event: ClassVar[str] = "pool.removed"
    signal: ClassVar[Signal] = signals.pool_removed
