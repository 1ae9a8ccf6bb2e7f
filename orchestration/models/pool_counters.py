"""Update the counters of pools when workers and stages change.

A change costs one statement, regardless of the size of the pool: rows are never recounted.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import IntegrityError
from django.db.models.functions import Coalesce, Now

from orchestration.db import before_commit
from orchestration.db.compiled import add_to_row
from orchestration.models.pool import CLOSED_POOL_HAS_NO_WORK, Pool
from orchestration.models.statuses import StageStatus, WorkerStatus

# An offline worker counts only in `worker_count`.
_WORKER_COUNTERS: Final = {
    WorkerStatus.BUSY.value: "active_workers",
    WorkerStatus.IDLE.value: "idle_workers",
    WorkerStatus.ERROR.value: "error_workers",
}
_STAGE_COUNTERS: Final = {StageStatus.QUEUED.value: "queue_size", StageStatus.RUNNING.value: "tasks_running"}
_STAGE_TOTALS: Final = {StageStatus.COMPLETED.value: "tasks_completed", StageStatus.FAILED.value: "tasks_failed"}


class ClosedPoolHasWork(IntegrityError):
    """The database rejected work for a pool that is closed."""

    def __init__(self, pool_id: str, reason: str) -> None:
        self.pool_id = pool_id
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class PoolCountersMoved:
    """An item collected for `orchestration.services.pool_metrics`, which sends `pool_metrics_changed`."""

    pool_id: str
    at: datetime


class PoolCounterDelta:
    """The amounts that a change adds to the counters of pools. A row without a pool does not count."""

    def __init__(self) -> None:
        self._changes: dict[str, dict[str, int]] = {}

    def add_worker(self, pool_id: str | None, status: str, amount: int) -> None:
        """Count a worker that now has this status (`amount` 1) or no longer has it (-1)."""
        self._add(pool_id, "worker_count", amount)
        self._add(pool_id, _WORKER_COUNTERS.get(status), amount)

    def add_stage(self, pool_id: str | None, status: str, amount: int) -> None:
        """Count a stage that now has this status (`amount` 1) or no longer has it (-1)."""
        self._add(pool_id, _STAGE_COUNTERS.get(status), amount)

    def add_finished_stage(self, pool_id: str | None, status: str) -> None:
        """Count a stage that has just reached this status, if pools keep a total for it. Totals never go down."""
        self._add(pool_id, _STAGE_TOTALS.get(status), 1)

    def write(self, *, at: datetime, using: str) -> None:
        """Update the stored counters, and collect these pools: their metrics are published before the commit.

        Pools are the last rows that a change locks, in the order of their ids: see `orchestration.models.tracked`.
        """
        if (batch := _batch.get()) is not None and batch is not self:
            batch._add_all(self)
            return
        for pool_id, changes in sorted(self._changes.items()):
            if moved := {column: amount for column, amount in changes.items() if amount}:
                _move(pool_id, moved, at=at, using=using)
                before_commit.collect(PoolCountersMoved(pool_id, at), using=using)

    def _add_all(self, delta: PoolCounterDelta) -> None:
        for pool_id, changes in delta._changes.items():
            for column, amount in changes.items():
                self._add(pool_id, column, amount)

    def _add(self, pool_id: str | None, column: str | None, amount: int) -> None:
        if pool_id is not None and column is not None:
            changes = self._changes.setdefault(pool_id, {})
            changes[column] = changes.get(column, 0) + amount


_DIRTY_SINCE: Final = (("metrics_dirty_since", Coalesce("metrics_dirty_since", Now())),)


def _move(pool_id: str, amounts: dict[str, int], *, at: datetime, using: str) -> None:
    try:
        add_to_row(
            Pool,
            pool_id,
            amounts=amounts,
            values={"updated_at": at},
            expressions=_DIRTY_SINCE,
            unless="metrics_reported",
            using=using,
        )
    except IntegrityError as error:
        if CLOSED_POOL_HAS_NO_WORK not in str(error):
            raise
        raise ClosedPoolHasWork(pool_id, str(error)) from error


_batch: ContextVar[PoolCounterDelta | None] = ContextVar("pool counter batch", default=None)


@contextmanager
def batched_counters(*, at: datetime, using: str = "default") -> Iterator[None]:
    """Add up the counter changes of the block, and write them at its end: one statement for each pool.

    Use it in a transaction that changes several rows, so that pools are the last rows that it locks.
    """
    if _batch.get() is not None:
        yield
        return
    delta = PoolCounterDelta()
    token = _batch.set(delta)
    try:
        yield
        delta.write(at=at, using=using)
    finally:
        _batch.reset(token)
