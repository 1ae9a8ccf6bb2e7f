"""A workflow: one run, in which an adapter runs stages for a prompt."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, Protocol

from django.db import models
from django.db.models import F, ProtectedError, Q
from django.db.models.signals import post_delete, pre_delete
from django.dispatch import receiver
from django.utils import timezone

from orchestration import signals
from orchestration.identifiers import MAX_IDENTIFIER_LENGTH, MAX_RELEASE_LENGTH, new_workflow_id, validate_identifier
from orchestration.models.pool import Pool
from orchestration.models.statuses import FINISHED_WORKFLOW_STATUSES, HoldReason, WorkflowStatus
from orchestration.models.tracked import TrackedState
from orchestration.models.tree_member import TreeMember
from orchestration.reporter import MAX_REPORTER_LENGTH, current_reporter

MAX_WORKFLOW_NAME_LENGTH: Final = 128
MAX_ADAPTER_LENGTH: Final = 128
MAX_NEEDS_LENGTH: Final = 300
MAX_KEY_LENGTH: Final = 400  # It contains the name of the definition and the key of the caller.
# The constraint that decides the race between two starts with the same key.
KEY_UNIQUE: Final = "orchestration_workflow_key_unique"
TIMEOUT_ERROR: Final = "Execution timeout"

_SIGNALS: Final = {
    WorkflowStatus.RUNNING.value: signals.workflow_started,
    WorkflowStatus.COMPLETED.value: signals.workflow_completed,
    WorkflowStatus.FAILED.value: signals.workflow_failed,
    WorkflowStatus.TIMEOUT.value: signals.workflow_failed,
    WorkflowStatus.CANCELLED.value: signals.workflow_cancelled,
}
_STARTED: Final = [WorkflowStatus.RUNNING.value, WorkflowStatus.COMPLETED.value]


class StageSettler(Protocol):
    """Updates the stages of a workflow whose status or pool has changed."""

    def __call__(
        self, workflow: Workflow, before: TrackedState, after: TrackedState, *, at: datetime, using: str
    ) -> None: ...


class Workflow(TreeMember):
    """A run of stages by an adapter, in a pool if it has one. A finished workflow has no unfinished stage."""

    settle_stages: ClassVar[StageSettler]
    """Set by `orchestration.models`: the implementation imports the model of stages, which imports this one."""

    new_stages: Sequence[Any] | None = None
    """Set on a new instance before it is stored: its stages, in order. The event of the creation lists them."""

    tracked_columns: ClassVar[tuple[str, ...]] = ("status", "pool_id", "held_reason")

    sql_updated_columns: ClassVar[frozenset[str]] = frozenset(
        {"total_stages", "stages_completed", "has_undispatched_stages", "own_pools", "has_children"}
    )

    id = models.CharField(
        primary_key=True,
        max_length=MAX_IDENTIFIER_LENGTH,
        default=new_workflow_id,
        validators=[validate_identifier],
    )
    name = models.CharField(
        max_length=MAX_WORKFLOW_NAME_LENGTH,
        blank=True,
        # Processes of the previous release may still insert rows.
        db_default="",
        help_text="What runs, such as the name of the definition. May be empty.",
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
    # The next columns are for workflows that the engine runs.
    plan = models.JSONField(
        null=True, blank=True, editable=False, help_text="The plan of the run; each stage stores its own part."
    )
    key = models.CharField(
        max_length=MAX_KEY_LENGTH,
        blank=True,
        editable=False,
        help_text="Idempotency key: one workflow per key. May be empty.",
    )
    deadline_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="When it times out (database clock)."
    )
    release = models.CharField(
        max_length=MAX_RELEASE_LENGTH,
        blank=True,
        db_default="",
        editable=False,
        help_text="Only workers of this release run it. Empty: all do.",
    )
    secrets = models.TextField(
        blank=True,
        db_default="",
        editable=False,
        help_text="Its secret parameters, encrypted. The other columns have a mask in their place.",
    )
    held_reason = models.CharField(
        max_length=16,
        choices=HoldReason.choices,
        blank=True,
        db_default="",
        editable=False,
        help_text="Why no worker can take it now; empty if one can.",
    )
    held_needs = models.CharField(
        max_length=MAX_NEEDS_LENGTH,
        blank=True,
        db_default="",
        editable=False,
        help_text="What the workers lack that could take it, and why the last one does.",
    )
    held_since = models.DateTimeField(null=True, editable=False)
    has_undispatched_stages = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text="Whether it has queued stages that are not dispatched yet.",
    )
    own_pools = models.TextField(
        blank=True,
        db_default="",
        editable=False,
        help_text="The own pools of its stages, one on each line, sorted. Stages with an own pool do not move with it.",
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
    started_at = models.DateTimeField(null=True, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)
    updated_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = (
            models.UniqueConstraint(name=KEY_UNIQUE, fields=["key"], condition=~Q(key="")),
            models.CheckConstraint(
                name="orchestration_workflow_status_valid", condition=Q(status__in=list(WorkflowStatus.values))
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
                name="orchestration_workflow_due", fields=["deadline_at"], condition=Q(deadline_at__isnull=False)
            ),
            models.Index(
                name="orchestration_workflow_ended", fields=["finished_at"], condition=Q(finished_at__isnull=False)
            ),
            models.Index(name="orchestration_workflow_held", fields=["pool"], condition=~Q(held_reason="")),
            models.Index(
                name="orchestration_workflow_wide",
                fields=["created_at"],
                condition=Q(has_undispatched_stages=True),
            ),
            models.Index(
                name="orchestration_workflow_parent",
                fields=["parent", "-created_at"],
                condition=Q(parent__isnull=False),
            ),
            models.Index(
                name="orchestration_workflow_root", fields=["root", "-created_at"], condition=Q(root__isnull=False)
            ),
            models.Index(
                name="orchestration_workflow_orphans",
                fields=["children_due_at"],
                condition=Q(children_due_at__isnull=False),
            ),
            models.Index(name="orchestration_workflow_status", fields=["status", "-created_at"]),
            models.Index(name="orchestration_workflow_created", fields=["-created_at"]),
            models.Index(name="orchestration_workflow_pool", fields=["pool", "-created_at"]),
            models.Index(name="orchestration_workflow_name", fields=["name", "-created_at"]),
        )

    def __str__(self) -> str:
        return self.id

    @property
    def pool_ids(self) -> list[str]:
        """The pools in which stages of a workflow of the engine may run: its pool, and those of its stages."""
        own = self.own_pools.splitlines()
        return own if self.pool_id is None else [self.pool_id, *(pool for pool in own if pool != self.pool_id)]

    def derive_fields(self, *, before: TrackedState | None, at: datetime) -> None:
        if before is None:
            self.created_at = at
        if self.status in _STARTED:
            self.started_at = self.started_at or at
        self.finished_at = (self.finished_at or at) if self.status in FINISHED_WORKFLOW_STATUSES else None
        self.deadline_at = None if self.status in FINISHED_WORKFLOW_STATUSES else self.deadline_at
        if self.status != WorkflowStatus.RUNNING:
            self.held_reason = self.held_needs = ""
            self.held_since = None
        if self.finished_at is not None:
            self.has_undispatched_stages = False
        self.derive_children_due()
        if self.status == WorkflowStatus.TIMEOUT:
            self.error = self.error or TIMEOUT_ERROR

    def derived_fields(self) -> tuple[str, ...]:
        columns = (
            *("started_at", "finished_at", "error", "deadline_at", "children_due_at"),
            *("held_reason", "held_needs", "held_since"),
        )
        # While the workflow is unfinished, an instance may be stale.
        return columns if self.finished_at is None else (*columns, "has_undispatched_stages")

    def always_derived_fields(self) -> tuple[str, ...]:
        return ("updated_at",)

    def send_changes(self, before: TrackedState | None, after: TrackedState, *, at: datetime, using: str) -> None:
        if before is None:
            signals.workflow_created.send(sender=Workflow, workflow=self, at=at)
        else:
            type(self).settle_stages(self, before, after, at=at, using=using)
            if before.pool_id != after.pool_id:
                signals.workflow_moved.send(sender=Workflow, workflow=self, from_pool_id=before.pool_id, at=at)
            if before.held_reason != after.held_reason:
                signal = signals.workflow_held if after.held_reason else signals.workflow_hold_ended
                signal.send(sender=Workflow, workflow=self, at=at)
        if (before is None or before.status != after.status) and after.status in _SIGNALS:
            _SIGNALS[after.status].send(sender=Workflow, workflow=self, at=at)


# A signal handles the deletion: `QuerySet.delete()` does not call `Model.delete()`.


@receiver(pre_delete, sender=Workflow, dispatch_uid="orchestration.workflow.protect")
def _protect_unfinished(instance: Workflow, using: str, **_: Any) -> None:
    """Reject the deletion of an unfinished workflow that the engine runs: its workers need it."""
    status = (
        Workflow.objects.using(using)
        .select_for_update()
        .filter(pk=instance.pk, plan__isnull=False, finished_at=None)
        .values_list("status", flat=True)
        .first()
    )
    if status is not None:
        raise ProtectedError(
            f"Workflow {instance.pk} has status {status} and is run by the engine; "
            "only a finished one can be deleted: cancel it first.",
            {instance},
        )


@receiver(post_delete, sender=Workflow, dispatch_uid="orchestration.workflow.deleted")
def _after_delete(instance: Workflow, **_: Any) -> None:
    # Send a copy: Django clears the id of the instance itself at the end of the deletion.
    signals.workflow_removed.send(sender=Workflow, workflow=copy.copy(instance), at=timezone.now())
