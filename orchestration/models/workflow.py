"""A run: a prompt, carried out stage by stage."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

from django.apps import apps
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from orchestration import signals
from orchestration.db.compiled import CompiledSelect
from orchestration.identifiers import MAX_IDENTIFIER_LENGTH, new_workflow_id, validate_identifier
from orchestration.models.pool import Pool
from orchestration.models.pool_counters import PoolCounterDelta
from orchestration.models.statuses import (
    FINISHED_STAGE_STATUSES,
    FINISHED_WORKFLOW_STATUSES,
    StageStatus,
    WorkflowStatus,
)
from orchestration.models.tracked import TrackedModel, TrackedState

if TYPE_CHECKING:
    from orchestration.models.stage import Stage

MAX_ADAPTER_LENGTH: Final = 128
MAX_KEY_LENGTH: Final = 400  # a definition's name, and the key that was given
# The constraint that settles the race between two starts with one key.
STARTED_ONCE: Final = "orchestration_workflow_started_once"
TIMEOUT_ERROR: Final = "Execution timeout"

_SIGNALS: Final = {
    WorkflowStatus.RUNNING.value: signals.workflow_started,
    WorkflowStatus.COMPLETED.value: signals.workflow_completed,
    WorkflowStatus.FAILED.value: signals.workflow_failed,
    WorkflowStatus.TIMEOUT.value: signals.workflow_failed,
    WorkflowStatus.CANCELLED.value: signals.workflow_cancelled,
}
_STARTED: Final = [WorkflowStatus.RUNNING.value, WorkflowStatus.COMPLETED.value]


class Workflow(TrackedModel):
    """A run of stages by an adapter, on a pool if it has one. When it is finished, none of its stages is unfinished."""

    counters: ClassVar[frozenset[str]] = frozenset({"total_stages", "stages_completed"})

    id = models.CharField(
        primary_key=True,
        max_length=MAX_IDENTIFIER_LENGTH,
        default=new_workflow_id,
        validators=[validate_identifier],
    )
    adapter = models.CharField(max_length=MAX_ADAPTER_LENGTH)
    prompt = models.TextField(blank=True)
    params = models.JSONField(default=dict, blank=True)
    pool = models.ForeignKey(
        Pool, on_delete=models.PROTECT, null=True, blank=True, related_name="workflows", db_index=False
    )
    status = models.CharField(max_length=16, choices=WorkflowStatus.choices, default=WorkflowStatus.PENDING)
    result = models.JSONField(null=True, blank=True)
    error = models.TextField(blank=True, help_text="Why it failed, timed out or was cancelled.")
    total_stages = models.PositiveIntegerField(default=0, editable=False)
    stages_completed = models.PositiveIntegerField(default=0, editable=False)
    # What follows is for runs that the engine carries out.
    plan = models.JSONField(
        null=True, blank=True, editable=False, help_text="What was started; each stage has its own part of it."
    )
    key = models.CharField(
        max_length=MAX_KEY_LENGTH, blank=True, editable=False, help_text="What it was started for, once; or nothing."
    )
    deadline_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When it times out, by the clock of the database."
    )
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    started_at = models.DateTimeField(null=True, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = (
            models.UniqueConstraint(name=STARTED_ONCE, fields=["key"], condition=~Q(key="")),
            models.CheckConstraint(
                name="orchestration_workflow_status_known", condition=Q(status__in=list(WorkflowStatus.values))
            ),
            models.CheckConstraint(
                name="orchestration_workflow_stages_completed_within_total",
                condition=Q(stages_completed__lte=F("total_stages")),
            ),
            models.CheckConstraint(
                name="orchestration_workflow_finished_at_when_finished",
                condition=Q(status__in=FINISHED_WORKFLOW_STATUSES, finished_at__isnull=False)
                | (~Q(status__in=FINISHED_WORKFLOW_STATUSES) & Q(finished_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="orchestration_workflow_started_at_when_started",
                condition=~Q(status__in=_STARTED) | Q(started_at__isnull=False),
            ),
        )
        indexes = (
            models.Index(
                name="orchestration_workflow_late", fields=["deadline_at"], condition=Q(deadline_at__isnull=False)
            ),
            models.Index(name="orchestration_workflow_status", fields=["status", "-created_at"]),
            models.Index(name="orchestration_workflow_created", fields=["-created_at"]),
            models.Index(name="orchestration_workflow_pool", fields=["pool", "-created_at"]),
        )

    def __str__(self) -> str:
        return self.id

    def derive_fields(self, *, before: TrackedState | None, at: datetime) -> None:
        if self.status in _STARTED:
            self.started_at = self.started_at or at
        self.finished_at = (self.finished_at or at) if self.status in FINISHED_WORKFLOW_STATUSES else None
        self.deadline_at = None if self.status in FINISHED_WORKFLOW_STATUSES else self.deadline_at
        if self.status == WorkflowStatus.TIMEOUT:
            self.error = self.error or TIMEOUT_ERROR

    def derived_fields(self) -> tuple[str, ...]:
        return ("started_at", "finished_at", "error", "deadline_at")

    def always_derived_fields(self) -> tuple[str, ...]:
        return ("updated_at",)

    def on_change(self, *, before: TrackedState | None, after: TrackedState, at: datetime, using: str) -> None:
        if before is None:
            signals.workflow_created.send(sender=Workflow, workflow=self, at=at)
        else:
            self._settle_stages(before, after, at=at, using=using)
        if (before is None or before.status != after.status) and after.status in _SIGNALS:
            _SIGNALS[after.status].send(sender=Workflow, workflow=self, at=at)

    def _settle_stages(self, before: TrackedState, after: TrackedState, *, at: datetime, using: str) -> None:
        """End the stages of a finished workflow; of one that moves to another pool, take along those not yet started.

        Takes a constant number of queries, however many stages there are.
        """
        counts = PoolCounterDelta()
        if after.status in FINISHED_WORKFLOW_STATUSES:
            if before.status in FINISHED_WORKFLOW_STATUSES:
                return
            ended_as = StageStatus.SKIPPED if after.status == WorkflowStatus.COMPLETED else StageStatus.CANCELLED
            if stages := _UNFINISHED_STAGES.rows(self.pk, using=using):
                self.stages.using(using).exclude(status__in=FINISHED_STAGE_STATUSES).update(
                    status=ended_as, finished_at=at, retry_at=None, dispatch_due_at=None, lease_expires_at=None
                )
            for stage in stages:
                counts.add_stage(stage.pool_id, stage.status, -1)
        elif before.pool_id != after.pool_id:
            waiting = self.stages.using(using).filter(status__in=[StageStatus.PENDING, StageStatus.QUEUED])
            if stages := _locked(waiting):
                waiting.update(pool=after.pool_id)
            for status, pool_id in stages:
                counts.add_stage(pool_id, status, -1)
                counts.add_stage(after.pool_id, status, 1)
        counts.write(at=at, using=using)


# Asked at the end of every run, and mostly in vain. The model of stages is defined after this one.
_UNFINISHED_STAGES: Final[CompiledSelect[Any]] = CompiledSelect(
    lambda workflow_id: (
        apps.get_model("orchestration", "Stage")
        .objects.filter(workflow_id=workflow_id)
        .exclude(status__in=FINISHED_STAGE_STATUSES)
        .select_for_update(no_key=True)
        .order_by("pk")
        .only("pk", "status", "pool_id")
    ),
    str,
)


def _locked(stages: models.QuerySet[Stage]) -> list[tuple[str, str | None]]:
    """Lock the stages, in order, and read where they stand: status and pool."""
    return list(stages.select_for_update(no_key=True).order_by("pk").values_list("status", "pool_id"))
