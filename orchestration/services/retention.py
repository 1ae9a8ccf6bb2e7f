"""Prune finished runs, oldest first, with their stages and failed attempts."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Set
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, Sum
from django.utils import timezone

from orchestration import signals
from orchestration.db.clock import database_now
from orchestration.db.postgres_session import lock_if_free
from orchestration.db.retry import is_unavailable
from orchestration.limits import EngineLimits
from orchestration.models import (
    FINISHED_WORKFLOW_STATUSES,
    STAGE_PARTS,
    EarlyAnswer,
    Stage,
    StageMap,
    Worker,
    Workflow,
)
from orchestration.services.references import delete_unreferenced, deletion_error, exclude_protected

MAX_RUNS_PER_TRANSACTION: Final = 100

MAX_STAGES_PER_TRANSACTION: Final = 5000
"""On SQLite no other process writes during the transaction. A run with more stages has a separate one."""

MAX_UNDELETABLE_RUNS: Final = 1000
"""How many runs that cannot be deleted a sweep remembers. Each of its queries names them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRetention:
    """Which finished runs are kept: those that `max_age` or `max_runs` keeps, and those of another status or pool.

    Attributes:
        max_age: Keep runs that finished within this time; None keeps none by their age.
        max_runs: Keep this many runs, the newest; None keeps none by their number. If both are None, all are kept.
        statuses: Prune only runs with one of these statuses.
        pool_id: Prune only runs of this pool; None means of every pool.
    """

    max_age: timedelta | None = None
    max_runs: int | None = None
    statuses: Collection[str] = tuple(FINISHED_WORKFLOW_STATUSES)
    pool_id: str | None = None

    def prunable(self) -> QuerySet[Workflow]:
        """Select the runs to prune now. Runs that finish later do not shift the limits of this query set."""
        # The scheduler has yet to cancel the sub-runs of the others.
        candidates = Workflow.objects.filter(
            finished_at__isnull=False, status__in=self.statuses, children_due_at__isnull=True
        )
        if self.pool_id is not None:
            candidates = candidates.filter(pool_id=self.pool_id)
        if self.max_age is None and self.max_runs is None:
            return candidates.none()
        prunable = candidates
        if self.max_age is not None:
            prunable = prunable.filter(finished_at__lte=database_now() - self.max_age)
        if self.max_runs is not None:
            newest_first = candidates.order_by("-finished_at", "-pk").values_list("finished_at", "pk")
            newest = newest_first[self.max_runs : self.max_runs + 1].first()
            if newest is None:
                return candidates.none()
            finished_at, pk = newest
            # Many runs may finish at the same time: a bulk cancellation gives them one.
            prunable = prunable.filter(Q(finished_at__lt=finished_at) | Q(pk__lte=pk), finished_at__lte=finished_at)
        # The stage that waits for a sub-run reads its end, and a later attempt at a stage finds what it has started.
        unfinished_parent = Workflow.objects.filter(pk=OuterRef("parent_id"), finished_at=None)
        return exclude_protected(prunable.exclude(Exists(unfinished_parent)))


def retentions_of(limits: EngineLimits) -> tuple[RunRetention, ...]:
    """Return what the limits of the engine set, each alone: a run is kept if both keep it."""
    return (
        RunRetention(max_age=timedelta(seconds=limits.max_run_age_seconds)),
        RunRetention(max_runs=limits.max_finished_runs),
    )


class PruningSweep:
    """Prunes the runs that are prunable when it begins, block by block, each in one transaction.

    A run that another transaction holds, or of which a worker still runs a stage, is left to a later sweep. So is one
    that rows of another application need. `on_delete` of their foreign keys applies.

    Counters of pools do not change. Clients that subscribe to a pruned run find none, and its key may be used again.

    Args:
        retentions: Each prunes alone: a run is kept if all of them keep it.
        left_out: The ids of runs that are not tried, such as those that an earlier sweep could not delete.

    Attributes:
        undeletable_count: How many runs could not be deleted.
        undeletable: One of them, with the reason; empty if there is none.
        left_out: The ids of runs that are not tried, now with those that could not be deleted. None is added beyond
            `MAX_UNDELETABLE_RUNS`.
    """

    def __init__(self, *retentions: RunRetention, left_out: Set[str] = frozenset()) -> None:
        self.left_out = set(left_out)
        self.undeletable_count = 0
        self.undeletable = ""
        self._prunable = deque(retention.prunable() for retention in retentions)
        self._last: tuple[datetime | None, str] | None = None

    def prune_block(self) -> int | None:
        """Prune the next block and return how many runs it had; None if no run is left."""
        while self._prunable:
            if runs := self._next_block(self._prunable[0]):
                return self._prune(runs)
            self._prunable.popleft()
            self._last = None
        return None

    def _prune(self, runs: list[str]) -> int:
        """Delete these runs, or those of them that can be deleted. Return how many were.

        Foreign keys are checked at the commit, so a run that cannot be deleted, or one that a new row refers to, fails
        all runs of its transaction.
        """
        try:
            return _delete(self._prunable[0], runs)
        except Exception as error:
            # Receivers of signals, and `on_delete` functions, may raise anything.
            if is_unavailable(error):
                raise
            if len(runs) > 1:
                middle = len(runs) // 2
                return self._prune(runs[:middle]) + self._prune(runs[middle:])
            self.undeletable_count += 1
            if len(self.left_out) < MAX_UNDELETABLE_RUNS:
                self.left_out.add(runs[0])
            self.undeletable = self.undeletable or f"{runs[0]} ({deletion_error(error)})"
            return 0

    def _next_block(self, rows: QuerySet[Workflow]) -> list[str]:
        """Return the ids of the next runs. A block that fails is not tried again: it must not hide the others."""
        if self._last is not None:
            finished_at, pk = self._last
            rows = rows.filter(Q(finished_at__gt=finished_at) | Q(pk__gt=pk), finished_at__gte=finished_at)
        runs: list[str] = []
        stages = 0
        rows = rows.exclude(pk__in=self.left_out).only("pk", "finished_at", "total_stages")
        block = list(rows.order_by("finished_at", "pk")[:MAX_RUNS_PER_TRANSACTION])
        of_block = StageMap.objects.filter(stage__workflow_id__in=[workflow.pk for workflow in block])
        items = dict(of_block.values_list("stage__workflow_id").annotate(Sum("stored")))
        for workflow in block:
            stages += workflow.total_stages + items.get(workflow.pk, 0)
            if runs and stages > MAX_STAGES_PER_TRANSACTION:
                break
            runs.append(workflow.pk)
            self._last = workflow.finished_at, workflow.pk
        return runs


_LARGE_COLUMNS: Final = ("prompt", "params", "plan", "result", "secrets")


def _delete(prunable: QuerySet[Workflow], runs: list[str]) -> int:
    in_use = Worker.objects.filter(stage__isnull=False).values("stage__workflow_id")
    with transaction.atomic():
        # Read again: a run may have been retried meanwhile.
        found = lock_if_free(prunable.filter(pk__in=runs).exclude(pk__in=in_use))
        found_runs = list(found.defer(*_LARGE_COLUMNS))
        runs = [workflow.pk for workflow in found_runs]
        # Not through Django's collector, which would load every row and lock each run's stages one by one.
        for part in STAGE_PARTS:
            delete_unreferenced(part._base_manager.filter(stage__workflow_id__in=runs))
        delete_unreferenced(EarlyAnswer.objects.filter(workflow_id__in=runs))
        # Stages refer to each other: first the items go, and then the others name no stage that has added them.
        delete_unreferenced(Stage.objects.filter(workflow_id__in=runs, item_of__isnull=False))
        Stage.objects.filter(workflow_id__in=runs, added_by__isnull=False).update(added_by=None)
        delete_unreferenced(Stage.objects.filter(workflow_id__in=runs))
        referenced: set[str] = set()
        if delete_unreferenced(Workflow.objects.filter(pk__in=runs)) < len(runs):
            # Rows of other applications refer to the remaining ones. Their deletion sends the signal itself.
            remaining = Workflow.objects.filter(pk__in=runs)
            referenced.update(remaining.values_list("pk", flat=True))
            remaining.delete()
        at = timezone.now()
        for workflow in found_runs:
            if workflow.pk not in referenced:
                vars(workflow).update(dict.fromkeys(_LARGE_COLUMNS))
                signals.workflow_removed.send(sender=Workflow, workflow=workflow, at=at)
    return len(runs)
