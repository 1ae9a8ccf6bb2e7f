"""Remove workers that have been offline for long. A worker that comes back afterwards is a new one."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from orchestration.db.clock import database_now
from orchestration.db.postgres_session import lock_if_free
from orchestration.db.retry import is_unavailable
from orchestration.models import Stage, StageStatus, Worker, WorkerStatus
from orchestration.services.references import deletion_error
from orchestration.services.workers import remove_worker

MAX_WORKERS_PER_BLOCK: Final = 100
MAX_UNDELETABLE_WORKERS: Final = 1000
"""How many workers that cannot be removed a sweep remembers. Each of its queries names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRetention:
    """Which workers are kept: those that were online within `max_age`, that run a stage, or that are of another pool.

    Attributes:
        max_age: Keep workers that have been offline for less than this time.
        pool_id: Remove only workers of this pool; None means of every pool.
    """

    max_age: timedelta
    pool_id: str | None = None

    def removable(self) -> QuerySet[Worker]:
        """Select the workers to remove now. Those that leave later do not shift the limits of this query set."""
        runs_stage = Exists(Stage.objects.filter(worker_id=OuterRef("pk"), status=StageStatus.RUNNING))
        offline = Worker.objects.filter(
            ~runs_stage,
            status=WorkerStatus.OFFLINE,
            process="",
            stage__isnull=True,
            status_changed_at__lte=database_now() - self.max_age,
        )
        return offline if self.pool_id is None else offline.filter(pool_id=self.pool_id)


class WorkerSweep:
    """Removes the workers that are removable when it begins, block by block, each worker in one transaction.

    Args:
        retention: Which workers are kept.
        left_out: The ids of workers that are not tried.

    Attributes:
        undeletable_count: How many workers could not be removed.
        undeletable: One of them, with the reason; empty if there is none.
        left_out: The ids of workers that are not tried, now with those that could not be removed. None is added beyond
            `MAX_UNDELETABLE_WORKERS`.
    """

    def __init__(self, retention: WorkerRetention, left_out: Set[str] = frozenset()) -> None:
        self.left_out = set(left_out)
        self.undeletable_count = 0
        self.undeletable = ""
        self._removable = retention.removable()
        self._last: tuple[datetime, str] | None = None

    def prune_block(self) -> int | None:
        """Remove the workers of the next block, and return how many were; None if no worker is left."""
        workers = self._next_block()
        if not workers:
            return None
        return sum(map(self._remove, workers))

    def _next_block(self) -> list[str]:
        rows = self._removable.exclude(pk__in=self.left_out)
        if self._last is not None:
            since, pk = self._last
            rows = rows.filter(Q(status_changed_at__gt=since) | Q(pk__gt=pk), status_changed_at__gte=since)
        block = rows.order_by("status_changed_at", "pk").values_list("status_changed_at", "pk")[:MAX_WORKERS_PER_BLOCK]
        workers = list(block)
        if workers:
            self._last = workers[-1]
        return [pk for _, pk in workers]

    def _remove(self, worker_id: str) -> bool:
        try:
            return _remove_if(self._removable, worker_id)
        except Exception as error:
            # Receivers of signals, and `on_delete` functions, may raise anything.
            if is_unavailable(error):
                raise
            self.undeletable_count += 1
            if len(self.left_out) < MAX_UNDELETABLE_WORKERS:
                self.left_out.add(worker_id)
            self.undeletable = self.undeletable or f"{worker_id} ({deletion_error(error)})"
            return False


def _remove_if(removable: QuerySet[Worker], worker_id: str) -> bool:
    with transaction.atomic():
        # Read again under lock: it may be online again.
        if lock_if_free(removable.filter(pk=worker_id)).first() is None:
            return False
        remove_worker(worker_id=worker_id)
    return True
