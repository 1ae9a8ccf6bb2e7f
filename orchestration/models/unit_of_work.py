"""Collect the writes of many changes, and execute them together: a few statements instead of some for each change.

Inside of `unit_of_work()`, rows are changed in memory: every rule, counter and signal is the same, and each sees what
the changes before it did. Each table is written once, at the end. The caller has locked all rows, in the order of
`orchestration.models.tracked`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

from django.db.models.expressions import DatabaseDefault

from orchestration.db.bulk import insert_rows, update_rows


class UnitOfWork:
    """The rows of one unit of work.

    Args:
        stages: The stages in memory, by workflow and name. Of a workflow that finishes, these are all unfinished ones.
    """

    def __init__(self, stages: dict[str, dict[str, Any]]) -> None:
        self._stages = stages
        self._new: dict[type[Any], list[Any]] = {}
        self._changed: dict[type[Any], dict[Any, Any]] = {}
        self._columns: dict[type[Any], set[str]] = {}

    def insert(self, row: Any) -> None:
        """Insert a row at the end, with the values that it has then."""
        model: Any = type(row)
        for name, default in _database_defaults(model):
            if isinstance(getattr(row, name), DatabaseDefault):
                setattr(row, name, default)
        self._new.setdefault(model, []).append(row)

    def update(self, row: Any, update_fields: Iterable[str]) -> None:
        """Write columns of a row at the end, with the values that they have then."""
        if row._state.adding:
            return  # It is inserted with these values.
        model = type(row)
        self._changed.setdefault(model, {})[row.pk] = row
        self._columns.setdefault(model, set()).update(update_fields)

    def unfinished_stages(self, workflow_id: str) -> list[Any]:
        """Return the unfinished stages of a workflow in memory."""
        return [stage for stage in self._stages.get(workflow_id, {}).values() if stage.finished_at is None]

    def write(self, using: str) -> None:
        """Execute the writes: by model, in the order of locks, and by primary key."""
        for model in sorted({*self._new, *self._changed}, key=lambda model: _ORDER.index(model.__name__)):
            if rows := self._new.get(model):
                for row in rows if model.__name__ == "FailedAttempt" else ():
                    row.stage = row.stage  # A new stage has got its key just now.
                # Two transactions that insert the same rows must not wait for each other.
                rows.sort(key=_insertion_order)
                insert_rows(rows, using=using)
            if changed := self._changed.get(model):
                update_rows(
                    [changed[pk] for pk in sorted(changed)], update_fields=frozenset(self._columns[model]), using=using
                )


@cache
def _database_defaults(model: Any) -> tuple[tuple[str, Any], ...]:
    """Return the columns whose values the database would set, and these values."""
    fields = (field for field in model._meta.concrete_fields if field.has_db_default())
    return tuple((field.attname, field.db_default) for field in fields)


_ORDER = ("Worker", "Workflow", "Stage", "FailedAttempt", "Pool")


def _insertion_order(row: Any) -> Any:
    match type(row).__name__:
        case "Stage":
            return row.workflow_id, row.position
        case "FailedAttempt":
            return row.stage_id, row.attempt
    return row.pk


_current: ContextVar[UnitOfWork | None] = ContextVar("unit of work", default=None)


def current_unit() -> UnitOfWork | None:
    """Return the unit of work of this block, if it has one."""
    return _current.get()


@contextmanager
def unit_of_work(stages: dict[str, dict[str, Any]], *, using: str = "default") -> Iterator[UnitOfWork]:
    """Collect the writes of tracked models in the block, and execute them at its end. Needs an open transaction."""
    unit = UnitOfWork(stages)
    token = _current.set(unit)
    try:
        yield unit
    finally:
        _current.reset(token)
    unit.write(using)
