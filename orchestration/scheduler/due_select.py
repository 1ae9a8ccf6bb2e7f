"""Select the rows of a model that are due, for the scheduler."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final, Generic, Protocol, TypeVar

from django.db import connection, transaction
from django.db.models import Exists, Model, OuterRef, Q, QuerySet

from orchestration.db.compiled import CompiledSelect
from orchestration.db.postgres_session import lock_if_free
from orchestration.models import Stage, Workflow, WorkflowStatus
from orchestration.services.dispatch_due import HAS_WORK
from orchestration.services.dispatch_window import runs_with_small_window

Row = TypeVar("Row", bound=Model)

EVERY: Final = Q()


class RowSelect(Protocol):
    """Selects the rows of one job."""

    def rows(self, now: datetime, *, without: Collection[object] = ()) -> Sequence[Model]:
        """Return rows that are due at `now`, except those with these primary keys."""


class DueSelect(Generic[Row]):
    """Selects rows whose time has come, oldest first. Compiled, because it runs often and mostly finds nothing.

    Args:
        model: The model.
        due_column: When a row is due, on the clock of the database. An index on it keeps the query cheap.
        columns: Further columns to read.
        max_rows: The most rows that one query returns.
        where: Further conditions.
    """

    def __init__(self, model: type[Row], due_column: str, *columns: str, max_rows: int, where: Q = EVERY) -> None:
        self._model = model
        self._where = where
        self._due_column = due_column
        self._columns = columns
        self._max_rows = max_rows
        self._compiled = CompiledSelect(lambda now: self._query(now)[:max_rows], datetime)

    def rows(self, now: datetime, *, without: Collection[object] = ()) -> list[Row]:
        """Return the rows that are due at `now`, except those with these primary keys."""
        if without:
            return list(self._query(now).exclude(pk__in=without)[: self._max_rows])
        return self._compiled.rows(now)

    def _query(self, now: datetime) -> QuerySet[Row]:
        due = self._model._default_manager.filter(self._where, **{f"{self._due_column}__lte": now})
        return due.order_by(self._due_column, "pk").only("pk", *self._columns)


class FreeRows(Generic[Row]):
    """Selects those due rows that no transaction holds, or held a moment ago: heartbeats are not recorded in such rows.

    Args:
        select: Selects the due rows.
        grace_seconds: How long a heartbeat may take after the end of the transaction.
    """

    def __init__(self, select: DueSelect[Row], *, grace_seconds: float) -> None:
        self._select = select
        self._grace_seconds = grace_seconds
        # When a row was last found locked, on the monotonic clock.
        self._locked_at: dict[object, float] = {}

    def rows(self, now: datetime, *, without: Collection[object] = ()) -> list[Row]:
        """Return the rows that are due at `now`, except those with these primary keys."""
        rows = self._select.rows(now, without=without)
        if not rows or not connection.features.has_select_for_update_skip_locked:
            return rows
        with transaction.atomic():
            due = type(rows[0])._default_manager.filter(pk__in=[row.pk for row in rows])
            free = set(lock_if_free(due).values_list("pk", flat=True))
        at = time.monotonic()
        self._locked_at = {pk: then for pk, then in self._locked_at.items() if at - then < self._grace_seconds}
        self._locked_at.update((row.pk, at) for row in rows if row.pk not in free)
        return [row for row in rows if row.pk not in self._locked_at]


class SmallWindows:
    """Selects wide runs of which the broker holds too few messages.

    Args:
        max_rows: The most rows that one query returns.
    """

    def __init__(self, *, max_rows: int) -> None:
        self._max_rows = max_rows
        self._compiled = CompiledSelect(lambda: runs_with_small_window()[:max_rows])

    def rows(self, now: datetime, *, without: Collection[object] = ()) -> list[Workflow]:
        """Return them, oldest first, except those with these primary keys. They are due at any time."""
        if without:
            return list(runs_with_small_window().exclude(pk__in=without)[: self._max_rows])
        return self._compiled.rows()


class StalledRuns:
    """Selects running workflows of the engine in which nothing is queued, running or waiting for a retry.

    Args:
        max_rows: The most rows that one query returns.
    """

    def __init__(self, *, max_rows: int) -> None:
        self._max_rows = max_rows

    def rows(self, now: datetime, *, without: Collection[object] = ()) -> list[Workflow]:
        """Return them in the order of their creation, except those with these primary keys."""
        running = Workflow.objects.filter(status=WorkflowStatus.RUNNING, plan__isnull=False, created_at__lte=now)
        has_work = Exists(Stage.objects.filter(HAS_WORK, workflow_id=OuterRef("pk"), hosted=False))
        stalled = running.exclude(pk__in=without).filter(~has_work).order_by("created_at")
        return list(stalled.only("pk")[: self._max_rows])
