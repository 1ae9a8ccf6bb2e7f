"""A worker: a process, or one slot of a process, that can run a stage."""

from __future__ import annotations

import copy
from collections.abc import Collection
from datetime import datetime
from typing import Any, ClassVar

from django.db import models
from django.db.models import ProtectedError, Q
from django.db.models.signals import post_delete, pre_delete
from django.dispatch import receiver
from django.utils import timezone

from orchestration import signals
from orchestration.identifiers import MAX_IDENTIFIER_LENGTH, MAX_RELEASE_LENGTH, validate_identifier
from orchestration.models.pool import Pool
from orchestration.models.pool_counters import PoolCounterDelta
from orchestration.models.statuses import WorkerStatus
from orchestration.models.tracked import TrackedModel, TrackedState
from orchestration.reporter import MAX_REPORTER_LENGTH, current_reporter


class Worker(TrackedModel):
    """A worker with its last reported status."""

    removed_at: datetime | None = None
    """Set on an instance before `delete()`: the time of the removal; None means now."""

    tracked_columns: ClassVar[tuple[str, ...]] = ("status", "pool_id", "stage_id")

    id = models.CharField(primary_key=True, max_length=MAX_IDENTIFIER_LENGTH, validators=[validate_identifier])
    # Needs no separate index: `orchestration_worker_listed` starts with this column.
    pool = models.ForeignKey(Pool, on_delete=models.PROTECT, related_name="workers", db_index=False)
    status = models.CharField(max_length=16, choices=WorkerStatus.choices, default=WorkerStatus.IDLE)
    # The next three columns are for workers of the engine: slots of a process that a worker supervisor monitors.
    process = models.CharField(
        max_length=64,
        blank=True,
        editable=False,
        help_text="Identifies one run of a worker process.",
    )
    stage = models.ForeignKey(
        "orchestration.Stage",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
        help_text="The stage that it runs now.",
    )
    # For expiry: the scheduler marks the worker offline when this is too old. Null while it is offline, and for a
    # worker of an external orchestrator, which does not expire.
    heartbeat_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Last heartbeat (database clock)."
    )
    # Processes of the previous release may still insert rows, so the next columns have defaults in the database.
    draining = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text="Whether it starts no further stage and leaves when its stage ends.",
    )
    release = models.CharField(
        max_length=MAX_RELEASE_LENGTH, blank=True, db_default="", editable=False, help_text="The release of its code."
    )
    reported_by = models.CharField(
        max_length=MAX_REPORTER_LENGTH,
        blank=True,
        default=current_reporter,
        db_default="",
        editable=False,
        help_text="Who reported it to this installation. Empty: it is this installation's own.",
    )
    registered_at = models.DateTimeField(default=timezone.now, editable=False)
    status_changed_at = models.DateTimeField(default=timezone.now, editable=False)
    # For display: the last heartbeat or status report of any worker, which it keeps while it is offline.
    last_heartbeat_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = (
            models.CheckConstraint(
                name="orchestration_worker_status_valid", condition=Q(status__in=list(WorkerStatus.values))
            ),
        )
        indexes = (
            # In the order in which the workers of a pool are listed. Without the status, a change of it is cheaper.
            models.Index(name="orchestration_worker_listed", fields=["pool", "id"]),
            # For the removal of those that have been offline for long.
            models.Index(
                name="orchestration_worker_offline",
                fields=["status_changed_at"],
                condition=Q(status=WorkerStatus.OFFLINE),
            ),
            models.Index(
                name="orchestration_worker_heartbeat", fields=["heartbeat_at"], condition=Q(heartbeat_at__isnull=False)
            ),
        )

    def __str__(self) -> str:
        return self.id

    def derive_fields(self, *, before: TrackedState | None, at: datetime) -> None:
        self.status_changed_at = at

    def must_derive(self, before: TrackedState, written: Collection[str]) -> bool:
        has_new_status = "status" in written and before.status != self.status
        return has_new_status or ("pool_id" in written and before.pool_id != self.pool_id)

    def derived_fields(self) -> tuple[str, ...]:
        return ("status_changed_at",)

    def on_change(self, *, before: TrackedState | None, after: TrackedState, at: datetime, using: str) -> None:
        delta = PoolCounterDelta()
        if before is not None:
            delta.add_worker(before.pool_id, before.status, -1)
        delta.add_worker(after.pool_id, after.status, 1)
        delta.write(at=at, using=using)
        if before is None:
            signals.worker_added.send(sender=Worker, worker=self, at=at)
            return
        has_moved = before.pool_id != after.pool_id
        if has_moved:
            signals.worker_moved.send(sender=Worker, worker=self, from_pool_id=before.pool_id, at=at)
        if has_moved or before.status != after.status:
            # Also if it only moves: the subscribers of its new pool do not know it yet.
            signals.worker_status_changed.send(sender=Worker, worker=self, has_moved=has_moved, at=at)
        elif before.stage_id != after.stage_id:
            signals.worker_stage_changed.send(sender=Worker, worker=self, at=at)


# Signals handle the deletion: `QuerySet.delete()`, as in the admin's "delete selected", does not call `Model.delete()`.


@receiver(pre_delete, sender=Worker, dispatch_uid="orchestration.worker.lock")
def _lock_before_delete(instance: Worker, using: str, **_: Any) -> None:
    """Lock the worker, and reject the deletion while its process is alive."""
    if instance._locked_state is None:
        instance._locked_state = instance.lock_row(using)
    if instance.process and type(instance).objects.using(using).filter(pk=instance.pk).exclude(process="").exists():
        raise ProtectedError(
            f"Worker {instance.pk} is run by the engine, and its process is alive; "
            "only an offline worker can be deleted: stop the process first.",
            {instance},
        )


@receiver(post_delete, sender=Worker, dispatch_uid="orchestration.worker.deleted")
def _after_delete(instance: Worker, using: str, **_: Any) -> None:
    stored, instance._locked_state = instance._locked_state, None
    if stored is None:
        return  # A concurrent transaction deleted it first and sent the signal.
    at = instance.removed_at or timezone.now()
    delta = PoolCounterDelta()
    delta.add_worker(stored.pool_id, stored.status, -1)
    delta.write(at=at, using=using)
    # Send a copy: Django clears the id of the instance itself at the end of the deletion.
    signals.worker_removed.send(sender=Worker, worker=copy.copy(instance), at=at)
