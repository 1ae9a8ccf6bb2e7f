"""A pool: a named queue with its workers, and the counters that are its metrics."""

from __future__ import annotations

import copy
from datetime import datetime
from typing import Any, ClassVar, Final

from django.db import models
from django.db.models import F, Q
from django.db.models.signals import post_delete
from django.dispatch import receiver
from django.utils import timezone

from orchestration import signals
from orchestration.identifiers import MAX_IDENTIFIER_LENGTH, validate_identifier
from orchestration.models.statuses import PoolStatus
from orchestration.models.tracked import TrackedModel, TrackedState
from orchestration.reporter import MAX_REPORTER_LENGTH, current_reporter

# Every counter of a pool, in the order in which clients receive them. Each is an integer column of `Pool`.
# Every other list of counters derives from this tuple.
POOL_COUNTERS: Final = (
    "active_workers",
    "idle_workers",
    "queue_size",
    "tasks_completed",
    "tasks_failed",
    "tasks_running",
    "worker_count",
    "error_workers",
)
# The constraint that decides the race between closing a pool and adding work to it.
CLOSED_POOL_HAS_NO_WORK: Final = "orchestration_pool_closed_has_no_work"

_SIGNALS: Final = {
    PoolStatus.ACTIVE.value: signals.pool_reopened,
    PoolStatus.DRAINING.value: signals.pool_drained,
    PoolStatus.CLOSED.value: signals.pool_closed,
}


class Pool(TrackedModel):
    """A set of workers and the stages queued for them. Changes of its workers and stages update its counters."""

    removed_at: datetime | None = None
    """Set on an instance before `delete()`: the time of the removal; None means now."""

    tracked_columns: ClassVar[tuple[str, ...]] = ("status",)
    sql_updated_columns: ClassVar[frozenset[str]] = frozenset(
        {*POOL_COUNTERS, "metrics_published_at", "metrics_dirty_since"}
    )

    id = models.CharField(primary_key=True, max_length=MAX_IDENTIFIER_LENGTH, validators=[validate_identifier])
    status = models.CharField(max_length=16, choices=PoolStatus.choices, default=PoolStatus.ACTIVE)
    worker_count = models.PositiveIntegerField(default=0, help_text="Registered workers, in any status.")
    active_workers = models.PositiveIntegerField(default=0, help_text="Workers that are busy now.")
    idle_workers = models.PositiveIntegerField(default=0, help_text="Workers that are idle now.")
    error_workers = models.PositiveIntegerField(default=0, help_text="Workers that are in error now.")
    queue_size = models.PositiveIntegerField(default=0, help_text="Stages queued for the pool now.")
    tasks_running = models.PositiveIntegerField(default=0, help_text="Stages of the pool that run now.")
    tasks_completed = models.PositiveBigIntegerField(
        default=0, help_text="Stages completed since the pool was created."
    )
    tasks_failed = models.PositiveBigIntegerField(default=0, help_text="Stages failed since the pool was created.")
    metrics_reported = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text="Whether the counters are as an orchestrator elsewhere reported them, and are not counted here.",
    )
    # On the database clock; see `orchestration.services.pool_metrics`.
    metrics_published_at = models.DateTimeField(
        null=True, editable=False, help_text="When the metrics were last published."
    )
    metrics_dirty_since = models.DateTimeField(
        null=True, editable=False, help_text="Since when the metrics may differ from the last published ones."
    )
    reported_by = models.CharField(
        max_length=MAX_REPORTER_LENGTH,
        blank=True,
        default=current_reporter,
        db_default="",
        editable=False,
        help_text="Who reported it to this installation. Empty: it is this installation's own.",
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        indexes = (
            models.Index(
                name="orchestration_pool_dirty",
                fields=["metrics_dirty_since"],
                condition=Q(metrics_dirty_since__isnull=False),
            ),
        )
        constraints = (
            models.CheckConstraint(
                name="orchestration_pool_status_valid", condition=Q(status__in=list(PoolStatus.values))
            ),
            models.CheckConstraint(
                name="orchestration_pool_workers_add_up",
                condition=Q(worker_count__gte=F("active_workers") + F("idle_workers") + F("error_workers")),
            ),
            models.CheckConstraint(
                name=CLOSED_POOL_HAS_NO_WORK,
                condition=~Q(status=PoolStatus.CLOSED) | Q(queue_size=0, tasks_running=0),
            ),
        )

    def __str__(self) -> str:
        return self.id

    def derive_fields(self, *, before: TrackedState | None, at: datetime) -> None:
        if before is None:
            self.created_at = at

    def always_derived_fields(self) -> tuple[str, ...]:
        return ("updated_at",)

    def on_change(self, *, before: TrackedState | None, after: TrackedState, at: datetime, using: str) -> None:
        if before is None:
            signals.pool_created.send(sender=Pool, pool=self, at=at)
        # Treat a new pool as one that was active: it is never reported as reopened, but it may start as draining.
        if after.status != (PoolStatus.ACTIVE if before is None else before.status):
            _SIGNALS[after.status].send(sender=Pool, pool=self, at=at)


# A signal handles the deletion: `QuerySet.delete()` does not call `Model.delete()`.


@receiver(post_delete, sender=Pool, dispatch_uid="orchestration.pool.deleted")
def _after_delete(instance: Pool, **_: Any) -> None:
    # Send a copy: Django clears the id of the instance itself at the end of the deletion.
    signals.pool_removed.send(sender=Pool, pool=copy.copy(instance), at=instance.removed_at or timezone.now())
