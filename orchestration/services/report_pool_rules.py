"""Apply one report about a pool to rows in memory, and create the pools that other reports need."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from django.utils import timezone

from orchestration import signals
from orchestration.models import POOL_COUNTERS, Pool, PoolStatus
from orchestration.models.unit_of_work import current_unit
from orchestration.services import row_locks, validation
from orchestration.services.pools import change_locked_pool
from orchestration.services.report_rows import Rows
from orchestration.services.report_types import CreationNotAllowed, PoolMetricsReport, PoolReport

MAX_INTEGER: Final = 2**31 - 1
"""The largest value of the integer columns."""


class PoolRules:
    """Changes pools. `may_create`: whether the reporter may create a pool, or change what is in it."""

    def __init__(self, rows: Rows, may_create: Callable[[str], bool]) -> None:
        self._rows = rows
        self._may_create = may_create
        self._last_created = datetime.min.replace(tzinfo=UTC)

    def change(self, report: PoolReport) -> bool:
        """Change the status of a pool, or create it. Return False if it is as reported already."""
        if report.is_new:
            if validation.identifier("pool_id", report.pool_id) in self._rows.pools:
                return False
            self._create(report.pool_id)
            return True
        pool = self._rows.find_pool(report.pool_id)
        if pool is None:
            raise row_locks.PoolNotFound(report.pool_id)
        if pool.status == report.status:
            return False
        if report.status == PoolStatus.CLOSED:
            pool.refresh_from_db()
        pool.mark_locked()
        change_locked_pool(pool, report.status, at=report.at)
        return True

    def ensure(self, pool_id: str) -> Pool:
        """Return a pool to which work is added. One that is not known is created."""
        pool = self._rows.pools.get(validation.identifier("pool_id", pool_id))
        if pool is None:
            return self._create(pool_id)
        if not pool.reported_by:
            self.check_may_create(pool_id)
        return pool

    def check_may_create(self, pool_id: str) -> None:
        """Check that the reporter may create a pool, or change what is in it.

        Raises:
            CreationNotAllowed
        """
        if not self._may_create(pool_id):
            raise CreationNotAllowed(pool_id)

    def _create(self, pool_id: str) -> Pool:
        self.check_may_create(pool_id)
        # The overview lists pools as they were stored, so a reported time, which may be long ago, cannot order them.
        at = self._last_created = max(timezone.now(), self._last_created + timedelta(microseconds=1))
        pool = Pool(id=pool_id, created_at=at, updated_at=at)
        self._rows.pools[pool_id] = pool
        pool.insert(at=at)
        return pool

    def change_metrics(self, report: PoolMetricsReport) -> bool:
        """Store the counters of a pool. Return False if they are as reported already."""
        pool_id = validation.identifier("pool_id", report.pool_id)
        counters = {
            name: validation.integer(f"status.{name}", report.counters.get(name, 0), largest=MAX_INTEGER)
            for name in POOL_COUNTERS
        }
        of_workers = sum(counters[name] for name in ("active_workers", "idle_workers", "error_workers"))
        counters["worker_count"] = max(counters["worker_count"], of_workers)
        pool = self._rows.find_pool(pool_id)
        if pool is not None:
            if pool.status == PoolStatus.CLOSED and (counters["queue_size"] or counters["tasks_running"]):
                raise validation.InvalidArgument("status", report.counters, "no work, because the pool is closed")
            if pool.metrics_reported and all(getattr(pool, name) == value for name, value in counters.items()):
                return False
        else:
            pool = self._create(pool_id)
        for name, value in counters.items():
            setattr(pool, name, value)
        pool.metrics_reported = True
        pool.metrics_dirty_since = None
        pool.updated_at = report.at
        unit = current_unit()
        assert unit is not None
        unit.update(pool, (*POOL_COUNTERS, "metrics_reported", "metrics_dirty_since", "updated_at"))
        signals.pool_metrics_changed.send(sender=Pool, pool=pool, at=report.at)
        return True
