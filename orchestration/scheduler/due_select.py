"""Select the rows of a model that are due, for the scheduler."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from django.db import connection, transaction
from django.db.models import Exists, Model, OuterRef, Q, QuerySet

from orchestration.db.compiled import CompiledSelect
from orchestration.db.postgres_session import lock_if_free
from orchestration.limits import EngineLimits
from orchestration.models import Pool, Stage, StageMap, Wait, Worker, Workflow, WorkflowStatus
from orchestration.services.dispatch_due import HAS_WORK
from orchestration.services.dispatch_window import runs_with_small_window
from orchestration.services.holds import run_to_hold, runs_with_outdated_hold
from orchestration.services.sub_runs import sub_runs_to_cancel

Row = TypeVar("Row", bound=Model)

MAX_ROWS_PER_PASS: Final = 200
"""Maximum number of rows of each kind in one pass of a scheduler, so that no kind delays the others."""

EVERY: Final = Q()


class RowSelect(ABC, Generic[Row]):
    """Selects the rows of one job.

    Args:
        order_by: The column by which the rows are sorted, oldest first.
        max_rows: The most rows that one query returns.
    """

    def __init__(self, order_by: str, *, max_rows: int) -> None:
        self.max_rows = max_rows
        self._order_by = order_by

    def rows(self, now: datetime, *, without: Collection[object] = (), after: Row | None = None) -> list[Row]:
        """Return the rows that are due at `now`, except those with these primary keys and those up to this row."""
        if not without and after is None:
            return self._first_rows(now)
        rows = self._query(now).exclude(pk__in=without)
        if after is not None:
            at = getattr(after, self._order_by)
            is_behind = Q(**{f"{self._order_by}__gt": at}) | Q(**{self._order_by: at}, pk__gt=after.pk)
            # Implied by the other condition, and the one for which the database uses the index.
            rows = rows.filter(is_behind, **{f"{self._order_by}__gte": at})
        return list(rows[: self.max_rows])

    @abstractmethod
    def _query(self, now: datetime) -> QuerySet[Row]:
        """Return the query, which reads the primary key and the column of the order, and sorts by both."""

    def _first_rows(self, now: datetime) -> list[Row]:
        return list(self._query(now)[: self.max_rows])


class DueSelect(RowSelect[Row]):
    """Selects rows whose time has come. Compiled, because it runs often and mostly finds nothing.

    Args:
        model: The model.
        due_column: When a row is due, on the clock of the database. An index on it keeps the query cheap.
        columns: Further columns to read.
        max_rows: The most rows that one query returns.
        where: Further conditions.
    """

    def __init__(self, model: type[Row], due_column: str, *columns: str, max_rows: int, where: Q = EVERY) -> None:
        super().__init__(due_column, max_rows=max_rows)
        self._model = model
        self._where = where
        self._columns = columns
        self._compiled = CompiledSelect(lambda now: self._query(now)[:max_rows], datetime)

    def _first_rows(self, now: datetime) -> list[Row]:
        return self._compiled.rows(now)

    def _query(self, now: datetime) -> QuerySet[Row]:
        due = self._model._default_manager.filter(self._where, **{f"{self._order_by}__lte": now})
        return due.order_by(self._order_by, "pk").only("pk", self._order_by, *self._columns)


class RunSelect(RowSelect[Workflow]):
    """Selects runs that are due at any time.

    Args:
        select: Returns the query for a database time. It sorts by `created_at` and the primary key, and reads both.
        max_rows: The most rows that one query returns.
    """

    def __init__(self, select: Callable[[datetime], QuerySet[Workflow]], *, max_rows: int) -> None:
        super().__init__("created_at", max_rows=max_rows)
        self._select = select

    def _query(self, now: datetime) -> QuerySet[Workflow]:
        return self._select(now)


class SmallWindows(RunSelect):
    """Selects wide runs of which the broker holds too few messages. Compiled, as `DueSelect`."""

    def __init__(self, *, max_rows: int) -> None:
        super().__init__(lambda now: runs_with_small_window(), max_rows=max_rows)
        self._compiled = CompiledSelect(lambda: runs_with_small_window()[:max_rows])

    def _first_rows(self, now: datetime) -> list[Workflow]:
        return self._compiled.rows()


def stalled_runs(now: datetime) -> QuerySet[Workflow]:
    """Select running workflows of the engine in which nothing is queued, running or waiting for a retry."""
    running = Workflow.objects.filter(status=WorkflowStatus.RUNNING, plan__isnull=False, created_at__lte=now)
    has_work = Exists(Stage.objects.filter(HAS_WORK, workflow_id=OuterRef("pk"), hosted=False))
    return running.filter(~has_work).order_by("created_at", "pk").only("pk", "created_at")


def due_sub_runs(now: datetime) -> QuerySet[Workflow]:
    """Select the unfinished sub-runs of the runs that have ended first without completing."""
    # Not one query with a join: a database could search for those runs among all workflows. Mostly there are none.
    parents = [run.pk for run in RUNS_WITH_CANCELLATION.rows(now)]
    return sub_runs_to_cancel(parents).order_by("created_at", "pk").only("pk", "created_at")


class Sweep(Generic[Row]):
    """Goes through all due rows, one page in each pass of a scheduler, and then begins again.

    So rows that stay due, because they fail, do not keep those behind them from their turn, however many they are.
    """

    def __init__(self, select: RowSelect[Row]) -> None:
        self._select = select
        # What was due when the sweep began. A sweep that included rows that become due later might never end.
        self._due_at: datetime | None = None
        self._after: Row | None = None

    def next_page(self, due_at: datetime, *, without: Collection[object]) -> list[Row]:
        """Return the next rows that are due, except those with these primary keys."""
        self._due_at = self._due_at or due_at
        rows = self._select.rows(self._due_at, without=without, after=self._after)
        if len(rows) < self._select.max_rows:
            self._due_at = self._after = None
        else:
            self._after = rows[-1]
        return rows

    def continue_after(self, row: Row, due_at: datetime) -> None:
        """Begin the next page behind this row."""
        self._due_at = self._due_at or due_at
        self._after = row


HEARTBEATS_AFTER_LOCK: Final = 2
"""The intervals of heartbeats after which a row without a heartbeat is due that a transaction had held."""


class LockedRows:
    """The rows that a transaction holds, or held a moment ago: heartbeats are not recorded in such rows.

    A heartbeat follows within `HEARTBEATS_AFTER_LOCK` intervals of heartbeats after the end of the transaction.
    """

    def __init__(self, limits: EngineLimits) -> None:
        interval_seconds = limits.heartbeat_seconds + limits.supervisor_interval_seconds
        self._grace_seconds = HEARTBEATS_AFTER_LOCK * interval_seconds
        # When a row was last found locked, on the monotonic clock.
        self._locked_at: dict[object, float] = {}

    def exclude_from(self, rows: Sequence[Any]) -> Sequence[Any]:
        """Return the other rows of these rows of one model."""
        if not rows or not connection.features.has_select_for_update_skip_locked:
            return rows
        with transaction.atomic():
            due = type(rows[0])._default_manager.filter(pk__in=[row.pk for row in rows])
            free = set(lock_if_free(due).values_list("pk", flat=True))
        at = time.monotonic()
        self._locked_at = {pk: then for pk, then in self._locked_at.items() if at - then < self._grace_seconds}
        self._locked_at.update((row.pk, at) for row in rows if row.pk not in free)
        return [row for row in rows if row.pk not in self._locked_at]


DIRTY_POOLS: Final = DueSelect(Pool, "metrics_dirty_since", max_rows=MAX_ROWS_PER_PASS)
DIRTY_MAPS: Final = DueSelect(StageMap, "dirty_since", max_rows=MAX_ROWS_PER_PASS)
DUE_WAITS: Final = DueSelect(Wait, "due_at", max_rows=MAX_ROWS_PER_PASS)
DUE_RETRIES: Final = DueSelect(Stage, "retry_at", max_rows=MAX_ROWS_PER_PASS)
UNCLAIMED_STAGES: Final = DueSelect(Stage, "dispatch_due_at", "attempt", "pool", max_rows=MAX_ROWS_PER_PASS)
REFUSED_STAGES: Final = DueSelect(Stage, "refused_until", max_rows=MAX_ROWS_PER_PASS)
RUNS_TO_HOLD: Final = DueSelect(Stage, "dispatch_due_at", max_rows=MAX_ROWS_PER_PASS, where=run_to_hold())
OUTDATED_HOLDS: Final = RunSelect(lambda now: runs_with_outdated_hold(), max_rows=MAX_ROWS_PER_PASS)
RUNS_WITH_CANCELLATION: Final = DueSelect(Workflow, "children_due_at", max_rows=MAX_ROWS_PER_PASS)
SUB_RUNS_TO_CANCEL: Final = RunSelect(due_sub_runs, max_rows=MAX_ROWS_PER_PASS)
LATE_WORKFLOWS: Final = DueSelect(Workflow, "deadline_at", max_rows=MAX_ROWS_PER_PASS)
EXPIRED_LEASES: Final = DueSelect(Stage, "lease_expires_at", max_rows=MAX_ROWS_PER_PASS)
SILENT_WORKERS: Final = DueSelect(Worker, "heartbeat_at", max_rows=MAX_ROWS_PER_PASS)
STALLED_RUNS: Final = RunSelect(stalled_runs, max_rows=MAX_ROWS_PER_PASS)
SMALL_WINDOWS: Final = SmallWindows(max_rows=MAX_ROWS_PER_PASS)
