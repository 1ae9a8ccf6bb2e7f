"""Prune finished runs, oldest first, with their stages and failed attempts."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Self

from django.db import transaction
from django.db.models import QuerySet

from orchestration.db.clock import database_now
from orchestration.db.postgres_session import lock_if_free
from orchestration.limits import EngineLimits
from orchestration.models import FINISHED_WORKFLOW_STATUSES, FailedAttempt, Stage, Worker, Workflow

MAX_RUNS_PER_TRANSACTION: Final = 100
MAX_STAGES_PER_TRANSACTION: Final = 5000
"""On SQLite no other process writes during the transaction. A run with more stages has a separate one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRetention:
    """Which finished runs are kept.

    Attributes:
        max_age: Prune runs that finished longer ago; None keeps them.
        max_runs: Prune the oldest finished runs above this number; None keeps them.
        statuses: Prune only runs with one of these statuses.
        pool_id: Prune only runs of this pool; None means of every pool.
    """

    max_age: timedelta | None = None
    max_runs: int | None = None
    statuses: Collection[str] = tuple(FINISHED_WORKFLOW_STATUSES)
    pool_id: str | None = None

    @classmethod
    def from_limits(cls, limits: EngineLimits) -> Self:
        """Return the retention that `limits` set."""
        return cls(max_age=timedelta(seconds=limits.max_run_age_seconds), max_runs=limits.max_finished_runs)

    def prunable(self) -> QuerySet[Workflow]:
        """Select the runs to prune, oldest first."""
        candidates = Workflow.objects.filter(finished_at__isnull=False, status__in=self.statuses)
        if self.pool_id is not None:
            candidates = candidates.filter(pool_id=self.pool_id)
        cutoffs = [database_now() - self.max_age] if self.max_age is not None else []
        if self.max_runs is not None:
            newest_first = candidates.order_by("-finished_at").values_list("finished_at", flat=True)
            cutoffs += [at for at in newest_first[self.max_runs : self.max_runs + 1] if at is not None]
        if not cutoffs:
            return candidates.none()
        return candidates.filter(finished_at__lte=max(cutoffs)).order_by("finished_at", "pk")


def prune_runs(retention: RunRetention) -> int:
    """Prune one block of runs, in one transaction, and return how many. Call again until it returns 0.

    A run that another transaction holds, or of which a worker still runs a stage, is kept until a later call.
    Counters of pools do not change. Clients that subscribe to a pruned run find none, and its key may be used again.
    """
    with transaction.atomic():
        # Those that are kept for the moment must not hide the others.
        in_use = Worker.objects.filter(stage__isnull=False).values("stage__workflow_id")
        found = lock_if_free(retention.prunable().exclude(pk__in=in_use)).only("pk", "total_stages")
        runs: list[str] = []
        stages = 0
        for workflow in found[:MAX_RUNS_PER_TRANSACTION]:
            stages += workflow.total_stages
            if runs and stages > MAX_STAGES_PER_TRANSACTION:
                break
            runs.append(workflow.pk)
        of_runs = Stage.objects.filter(workflow_id__in=runs)
        # Not through Django's collector, which would load every row and lock each run's stages one by one.
        FailedAttempt.objects.filter(stage__in=of_runs)._raw_delete("default")
        of_runs._raw_delete("default")
        Workflow.objects.filter(pk__in=runs)._raw_delete("default")
    return len(runs)
