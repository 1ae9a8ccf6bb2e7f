"""A process, or a slot of one, that can run a stage."""

from __future__ import annotations

import copy
from datetime import datetime
from typing import Any

from django.db import models
from django.db.models import Q
from django.db.models.signals import post_delete, pre_delete
from django.dispatch import receiver
from django.utils import timezone

from orchestration import signals
from orchestration.identifiers import MAX_IDENTIFIER_LENGTH, validate_identifier
from orchestration.models.pool import Pool
from orchestration.models.pool_counters import PoolCounterDelta
from orchestration.models.statuses import WorkerStatus
from orchestration.models.tracked import TrackedModel, TrackedState


class Worker(TrackedModel):
    """A worker and what it last said of itself."""

    removed_at: datetime | None = None
    """Set on an instance before `delete()`: the moment to announce, if it is not now."""

    id = models.CharField(primary_key=True, max_length=MAX_IDENTIFIER_LENGTH, validators=[validate_identifier])
    # Without an index of its own: the one below begins with it.
    pool = models.ForeignKey(Pool, on_delete=models.PROTECT, related_name="workers", db_index=False)
    status = models.CharField(max_length=16, choices=WorkerStatus.choices, default=WorkerStatus.IDLE)
    # What follows is for workers of the engine: slots of a process that is watched by its keeper.
    process = models.CharField(
        max_length=64,
        blank=True,
        editable=False,
        help_text="Names one run of a worker process.",
    )
    stage = models.ForeignKey(
        "orchestration.Stage",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
        help_text="What it runs now.",
    )
    heartbeat_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When it was last heard of, by the clock of the database."
    )
    registered_at = models.DateTimeField(default=timezone.now, editable=False)
    status_changed_at = models.DateTimeField(default=timezone.now, editable=False)
    last_heartbeat_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = (
            models.CheckConstraint(
                name="orchestration_worker_status_known", condition=Q(status__in=list(WorkerStatus.values))
            ),
        )
        indexes = (
            models.Index(name="orchestration_worker_pool", fields=["pool", "status"]),
            models.Index(
                name="orchestration_worker_heartbeat", fields=["heartbeat_at"], condition=Q(heartbeat_at__isnull=False)
            ),
        )

    def __str__(self) -> str:
        return self.id

    def derive_fields(self, *, before: TrackedState | None, at: datetime) -> None:
        if before is None or before.status != self.status:
            self.status_changed_at = at

    def derived_fields(self) -> tuple[str, ...]:
        return ("status_changed_at",)

    def on_change(self, *, before: TrackedState | None, after: TrackedState, at: datetime, using: str) -> None:
        counts = PoolCounterDelta()
        if before is not None:
            counts.add_worker(before.pool_id, before.status, -1)
        counts.add_worker(after.pool_id, after.status, 1)
        counts.write(at=at, using=using)
        if before is None:
            signals.worker_added.send(sender=Worker, worker=self, at=at)
        elif before.status != after.status:
            signals.worker_status_changed.send(sender=Worker, worker=self, at=at)


# Deletion is followed by signals and not in delete(), which a QuerySet (the admin's "delete selected") never calls.


@receiver(pre_delete, sender=Worker, dispatch_uid="orchestration.worker.hold")
def _hold(instance: Worker, using: str, **_: Any) -> None:
    """Lock what a removal touches, in order: the worker, then the stages that will forget it."""
    if instance._locked_state is None:
        instance._locked_state = instance.lock_row(using)
    list(instance.stages.using(using).select_for_update(no_key=True).order_by("pk").values_list("pk"))


@receiver(post_delete, sender=Worker, dispatch_uid="orchestration.worker.removed")
def _removed(instance: Worker, using: str, **_: Any) -> None:
    stored, instance._locked_state = instance._locked_state, None
    if stored is None:
        return  # Somebody else removed it first, and announced it.
    at = instance.removed_at or timezone.now()
    counts = PoolCounterDelta()
    counts.add_worker(stored.pool_id, stored.status, -1)
    counts.write(at=at, using=using)
    # A copy keeps its id; Django takes it from the instance itself when all is done.
    signals.worker_removed.send(sender=Worker, worker=copy.copy(instance), at=at)
