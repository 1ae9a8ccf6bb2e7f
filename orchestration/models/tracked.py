"""Models that send a signal when their status changes, no matter which code saves them.

`save()` opens a transaction, reads the stored row under lock, writes the new values and compares the two. Each
difference is counted and sent as a signal. A service has already read the row under lock, to check the transition. So
it calls `mark_locked()` and then `save_locked()`, which does the same with one query less. As everywhere in Django,
`QuerySet.update()` and `bulk_create()` bypass `save()` and send no signals.

All code takes locks in one order, so that two changes cannot deadlock: worker, workflow, stages (by primary key), unmet
requirements, pools (by id). The end of a sub-run may end the stage that waits for it. So it locks the workflow and the
stage of its parent after its own rows, and so on upwards, and pools last. No transaction locks an existing sub-run
while it holds the parent: what goes down a tree is left to the scheduler. Locks are `FOR NO KEY UPDATE`: these are
strong enough, and other transactions can still insert rows that refer to the locked row.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

from django.db import models, router, transaction
from django.db.models.base import ModelBase
from django.utils import timezone

from orchestration.db.compiled import update_row
from orchestration.models.unit_of_work import current_unit


class TrackedState(NamedTuple):
    """The values of a row that decide which signals a change sends and which counters it moves."""

    status: str
    pool_id: str | None = None
    held_reason: str = ""
    stage_id: int | None = None


class TrackedModel(models.Model):
    """A model that compares the stored row with the written one, and passes both to `on_change()`."""

    tracked_columns: ClassVar[tuple[str, ...]] = ("status", "pool_id")
    """The columns of `TrackedState` that this model has."""

    sql_updated_columns: ClassVar[frozenset[str]] = frozenset()
    """Columns that `save()` writes only if `update_fields` names them: SQL updates them, so instances may be stale."""

    _locked_state: TrackedState | None = None

    class Meta:
        abstract = True

    def save(
        self,
        *,
        force_insert: bool | tuple[ModelBase, ...] = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Iterable[str] | None = None,
    ) -> None:
        """Save the row as Django does, and send a signal for each change."""
        if update_fields is not None and not (update_fields := frozenset(update_fields)):
            return  # As in Django: there is nothing to write.
        using = using or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            stored = None if force_insert else self.lock_row(using)
            at = timezone.now()
            if stored is None and (force_update or update_fields is not None):
                # There is no row to update: let Django raise its own error.
                super().save(force_update=force_update, using=using, update_fields=update_fields)
            elif stored is None:
                self._insert(at=at, using=using)
            else:
                # Use Django's own save: the caller may have set any column to any value.
                save = partial(super().save, force_update=True, using=using)
                self._update(stored, at=at, using=using, update_fields=update_fields, write=save)

    def on_change(self, *, before: TrackedState | None, after: TrackedState, at: datetime, using: str) -> None:
        """Count each difference between `before` (None: the row is new) and `after`, and send its signals."""
        raise NotImplementedError

    def derive_fields(self, *, before: TrackedState | None, at: datetime) -> None:
        """Set the columns that depend on the status, such as `finished_at`."""

    def must_derive(self, before: TrackedState, written: Collection[str]) -> bool:
        """Return whether a save that writes these columns may change what `derive_fields()` sets."""
        return "status" in written

    def derived_fields(self) -> Iterable[str]:
        """Return the columns that `derive_fields()` sets."""
        return ()

    def always_derived_fields(self) -> Iterable[str]:
        """Return the columns that every save sets to its time."""
        return ()

    def lock_row(self, using: str) -> TrackedState | None:
        """Lock the row and return its state; None if it is not stored. Needs an open transaction."""
        rows = (
            type(self)
            ._base_manager.using(using)
            .select_for_update(no_key=True)
            .filter(pk=self.pk)
            .values_list(*self.tracked_columns)
        )
        return next((TrackedState(**dict(zip(self.tracked_columns, row, strict=True))) for row in rows), None)

    def mark_locked(self) -> Self:
        """Declare that the open transaction read this row under lock. One call of `save_locked()` may rely on it."""
        self._locked_state = self._tracked_state()
        return self

    def insert(self, *, at: datetime) -> None:
        """Store a new row, created at `at`.

        Raises:
            IntegrityError: if a row with this id exists.
        """
        self._insert(at=at, using=router.db_for_write(type(self), instance=self))

    def save_locked(self, *, at: datetime, update_fields: Iterable[str]) -> None:
        """Write the named columns and the derived ones. The row must have been marked with `mark_locked()`.

        Raises:
            RuntimeError: if it was not.
            DatabaseError: if the row is no longer stored.
        """
        if self._locked_state is None:
            raise RuntimeError(f"{self!r} is not marked as locked; call mark_locked() first, or use save().")
        stored, self._locked_state = self._locked_state, None
        using = self._state.db or "default"
        unit = current_unit()
        write = partial(update_row, self, using=using) if unit is None else partial(unit.update, self)
        self._update(stored, at=at, using=using, update_fields=update_fields, write=write)

    def _insert(self, *, at: datetime, using: str) -> None:
        self.derive_fields(before=None, at=at)
        self._meta.pk.clean(self.pk, self)
        if (unit := current_unit()) is None:
            super().save(force_insert=True, using=using)
        else:
            unit.insert(self)
        self.on_change(before=None, after=self._tracked_state(), at=at, using=using)

    def _update(
        self,
        before: TrackedState,
        *,
        at: datetime,
        using: str,
        update_fields: Iterable[str] | None,
        write: Callable[..., None],
    ) -> None:
        written = self._columns_to_write(update_fields)
        if self.must_derive(before, written):
            self.derive_fields(before=before, at=at)
            written.update(self.derived_fields())
        for column in self.always_derived_fields():
            setattr(self, column, at)
            written.add(column)
        write(update_fields=written)
        current = after = self._tracked_state()
        if unwritten := [column for column in self.tracked_columns if column not in written]:
            after = current._replace(**{column: getattr(before, column) for column in unwritten})
        row = self
        if after != current:
            # The instance is stale, or has values that this save does not write: signals carry the stored ones.
            row = type(self)._base_manager.using(using).get(pk=self.pk)
        row.on_change(before=before, after=after, at=at, using=using)

    def _tracked_state(self) -> TrackedState:
        return TrackedState(**{column: getattr(self, column) for column in self.tracked_columns})

    def _columns_to_write(self, update_fields: Iterable[str] | None) -> set[str]:
        """Return the columns, by attribute (`pool_id`), that a save with these `update_fields` writes."""
        if update_fields is not None:
            return {self._attribute(name) for name in update_fields}
        loaded = {field.attname for field in self._meta.concrete_fields if not field.primary_key}
        return loaded - self.get_deferred_fields() - self.sql_updated_columns

    def _attribute(self, name: str) -> str:
        field: Any = self._meta.get_field(name)
        return str(field.attname)
