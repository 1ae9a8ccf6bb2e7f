"""Rows whose changes of status are announced, whoever saves them.

The one mechanism: inside a transaction, the row as it is stored is read under lock, the new one is written, and the two
are compared. What differs is counted and announced. `save()` does all of it. A service, which has read the row under
lock already to check the transition, says so with `mark_locked()` and writes with `save_locked()`: the same path, one query
less. `QuerySet.update()` and `bulk_create()` pass all this by, as everywhere in Django.

Locks are taken in one order everywhere, so that no two changes can wait for each other: worker, workflow, stages (by
primary key), pools (by id). `FOR NO KEY UPDATE` is enough: it lets others refer to the row meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from functools import partial
from typing import Any, ClassVar, NamedTuple, Self

from django.db import models, router, transaction
from django.db.models.base import ModelBase
from django.utils import timezone

from orchestration.db.compiled import update_row


class TrackedState(NamedTuple):
    """What decides whether a change is announced, and where it counts."""

    status: str
    pool_id: str | None = None


class TrackedModel(models.Model):
    """A model that compares what was stored with what it writes, and hands both to `on_change()`."""

    watched: ClassVar[tuple[str, ...]] = TrackedState._fields
    """Columns that make up `Stored`, in its order."""

    counters: ClassVar[frozenset[str]] = frozenset()
    """Columns that `save()` leaves alone unless they are named: `F()` moves them, and the instance may be old."""

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
        if update_fields is not None and not (update_fields := frozenset(update_fields)):
            return  # As Django does: nothing was asked for.
        using = using or router.db_for_write(type(self), instance=self)
        with transaction.atomic(using=using):
            stored = None if force_insert else self.lock_row(using)
            at = timezone.now()
            if stored is None and (force_update or update_fields is not None):
                # Nothing to update: Django has the words for that.
                super().save(force_update=force_update, using=using, update_fields=update_fields)
            elif stored is None:
                self._insert(at=at, using=using)
            else:
                # By Django's own way: whoever comes here may have set anything.
                save = partial(super().save, force_update=True, using=using)
                self._update(stored, at=at, using=using, update_fields=update_fields, write=save)

    def on_change(self, *, before: TrackedState | None, after: TrackedState, at: datetime, using: str) -> None:
        """Count and announce what differs between `before` (None: the row is new) and `after`."""
        raise NotImplementedError

    def derive_fields(self, *, before: TrackedState | None, at: datetime) -> None:
        """Fill the columns that follow from the status, such as `finished_at`."""

    def derived_fields(self) -> Iterable[str]:
        """Name the columns that `derive_fields()` fills."""
        return ()

    def always_derived_fields(self) -> Iterable[str]:
        """Name the columns to set to the moment of any save."""
        return ()

    def lock_row(self, using: str) -> TrackedState | None:
        """Read the watched columns under lock; None if the row is not stored. Needs a transaction."""
        rows = (
            type(self)
            ._base_manager.using(using)
            .select_for_update(no_key=True)
            .filter(pk=self.pk)
            .values_list(*self.watched)
        )
        return next((TrackedState(*row) for row in rows), None)

    def mark_locked(self) -> Self:
        """Declare that this row was read under lock in the open transaction: `save_locked()` may trust it, once."""
        self._locked_state = TrackedState(*(getattr(self, column) for column in self.watched))
        return self

    def insert(self, *, at: datetime) -> None:
        """Store a new row; `at` is the moment that is announced.

        Raises:
            IntegrityError: if a row with this id is stored already.
        """
        self._insert(at=at, using=router.db_for_write(type(self), instance=self))

    def save_locked(self, *, at: datetime, update_fields: Iterable[str]) -> None:
        """Write the named columns, and those that follow from them, of a row `mark_locked()` in the open transaction."""
        if self._locked_state is None:
            raise RuntimeError(f"{self!r} was not read under lock: call mark_locked() first, or save().")
        stored, self._locked_state = self._locked_state, None
        using = self._state.db or "default"
        write = partial(update_row, self, using=using)
        self._update(stored, at=at, using=using, update_fields=update_fields, write=write)

    def _insert(self, *, at: datetime, using: str) -> None:
        self.derive_fields(before=None, at=at)
        self._meta.pk.clean(self.pk, self)
        super().save(force_insert=True, using=using)
        after = TrackedState(*(getattr(self, column) for column in self.watched))
        self.on_change(before=None, after=after, at=at, using=using)

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
        if "status" in written:
            self.derive_fields(before=before, at=at)
            written.update(self.derived_fields())
        for column in self.always_derived_fields():
            setattr(self, column, at)
            written.add(column)
        write(update_fields=written)
        after = TrackedState(
            *(getattr(self, column) if column in written else getattr(before, column) for column in self.watched)
        )
        self.on_change(before=before, after=after, at=at, using=using)

    def _columns_to_write(self, update_fields: Iterable[str] | None) -> set[str]:
        """Name the columns, by attribute (`pool_id`), that a save with these `update_fields` writes."""
        if update_fields is not None:
            return {self._attribute(name) for name in update_fields}
        loaded = {field.attname for field in self._meta.concrete_fields if not field.primary_key}
        return loaded - self.get_deferred_fields() - self.counters

    def _attribute(self, name: str) -> str:
        field: Any = self._meta.get_field(name)
        return str(field.attname)
