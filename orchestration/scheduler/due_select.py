"""Select the rows of a model that are due, for the scheduler."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Generic, Protocol, TypeVar

from django.db.models import Exists, Model, OuterRef, QuerySet

from orchestration.db.compiled import CompiledSelect
from orchestration.models import Stage, Workflow, WorkflowStatus
from orchestration.services.dispatch_due import HAS_WORK
from orchestration.services.dispatch_window import runs_with_small_window

Row = TypeVar("Row", bound=Model)


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
    """

    def __init__(self, model: type[Row], due_column: str, *columns: str, max_rows: int) -> None:
        self._model = model
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
        due = self._model._default_manager.filter(**{f"{self._due_column}__lte": now})
        return due.order_by(self._due_column, "pk").only("pk", *self._columns)


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
