"""A stage of a workflow."""

from __future__ import annotations

from datetime import datetime
from typing import Final, Protocol

from django.db import models
from django.db.models import Q
from django.utils.functional import cached_property

from orchestration import signals
from orchestration.db.compiled import add_to_row
from orchestration.models.pool import Pool
from orchestration.models.pool_counters import PoolCounterDelta
from orchestration.models.statuses import FINISHED_STAGE_STATUSES, StageStatus
from orchestration.models.tracked import TrackedModel, TrackedState
from orchestration.models.unit_of_work import current_unit
from orchestration.models.worker import Worker
from orchestration.models.workflow import Workflow
from orchestration.plan import StagePlan

MAX_STAGE_NAME_LENGTH: Final = 128
MAX_SKIP_REASON_LENGTH: Final = 500

_SIGNALS: Final = {
    StageStatus.RUNNING.value: signals.stage_started,
    StageStatus.COMPLETED.value: signals.stage_completed,
    StageStatus.FAILED.value: signals.stage_failed,
}
_RUNNING_ITEM: Final = Q(item_of__isnull=False, status=StageStatus.RUNNING)


class EndedAttempt(Protocol):
    """A failed attempt, after which another one may follow. Its model imports this one."""

    @property
    def is_given_back(self) -> bool:
        """Whether the stage did not fail."""


class Stage(TrackedModel):
    """One part of a workflow. It is pending, is queued for a pool, runs on a worker, and finishes."""

    ended_attempt: EndedAttempt | None = None
    """Set on an instance before it is saved as pending: the attempt after which another one follows."""

    announces_wait: bool = False
    """Set on an instance before it is saved as waiting: the caller sends the signal."""

    # Needs no separate index: the two unique constraints below start with this column.
    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="stages", db_index=False)
    name = models.CharField(max_length=MAX_STAGE_NAME_LENGTH)
    position = models.PositiveIntegerField(help_text="0 for the first stage of its workflow.")
    pool = models.ForeignKey(
        Pool,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="stages",
        db_index=False,
        help_text="The pool whose queue and counters include it. The workflow's pool, unless the workflow moved later.",
    )
    status = models.CharField(max_length=16, choices=StageStatus.choices, default=StageStatus.PENDING)
    # A stage keeps the id of its worker when that is removed: read `worker_id`, the worker may not exist.
    worker = models.ForeignKey(
        Worker,
        on_delete=models.DO_NOTHING,
        null=True,
        blank=True,
        related_name="stages",
        db_index=False,
        db_constraint=False,
    )
    attempt = models.PositiveIntegerField(default=0, help_text="How many times it was started.")
    result = models.JSONField(null=True, blank=True)
    error = models.TextField(blank=True)
    skip_reason = models.CharField(max_length=MAX_SKIP_REASON_LENGTH, blank=True, default="", db_default="")
    duration_ms = models.PositiveBigIntegerField(null=True, blank=True)
    # The columns from here on are for stages that the engine runs.
    plan = models.JSONField(
        null=True, blank=True, editable=False, help_text="Its options, as they were when the workflow started."
    )
    step = models.PositiveIntegerField(default=0, help_text="Stages of one step run in parallel.")
    hosted = models.BooleanField(default=False, help_text="Another stage of the same step runs it and reports on it.")
    added_by = models.ForeignKey(
        "self",
        on_delete=models.SET_NULL,
        null=True,
        blank=True,
        editable=False,
        related_name="+",
        help_text="The stage that has added it to the run as it completed.",
    )
    item_of = models.ForeignKey(
        "self",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        editable=False,
        related_name="items",
        help_text="The stage that runs once for each value of a list, if this is one of these runs.",
    )
    item_index = models.PositiveIntegerField(null=True, editable=False, help_text="0 for the first item.")
    last_attempt = models.PositiveIntegerField(
        default=1, help_text="Number of the attempt after which a failure is final."
    )
    lost_attempts = models.PositiveIntegerField(default=0, help_text="Attempts lost because their worker died.")
    progress = models.FloatField(null=True, blank=True, help_text="From 0 to 1, as the stage reported it.")
    progress_message = models.TextField(blank=True)
    streams = models.JSONField(null=True, blank=True, editable=False, help_text="The streams it opened, by name.")
    # On the database clock, which all machines share.
    retry_at = models.DateTimeField(null=True, blank=True, help_text="When to queue the next attempt.")
    dispatch_due_at = models.DateTimeField(
        null=True,
        blank=True,
        help_text="When to dispatch it again if no worker has claimed it. None for a queued stage: not dispatched yet.",
    )
    refused_until = models.DateTimeField(
        null=True, blank=True, help_text="When to dispatch it again after a worker has refused it."
    )
    requirements = models.TextField(
        blank=True,
        db_default="",
        editable=False,
        help_text="The names of what workers lacked that have refused it, one on each line, sorted.",
    )
    held = models.BooleanField(
        default=False,
        db_default=False,
        editable=False,
        help_text="Whether no worker process of the pool may be able to run it. Then its workflow is held.",
    )
    lease_expires_at = models.DateTimeField(
        null=True, blank=True, help_text="When the attempt is considered lost without a further heartbeat."
    )
    queued_at = models.DateTimeField(null=True, editable=False)
    started_at = models.DateTimeField(null=True, editable=False)
    finished_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = (
            models.UniqueConstraint(name="orchestration_stage_name_unique", fields=["workflow", "name"]),
            models.UniqueConstraint(
                name="orchestration_stage_position_unique",
                fields=["workflow", "position"],
                condition=Q(item_of__isnull=True),
            ),
            models.UniqueConstraint(
                name="orchestration_stage_item_unique",
                fields=["item_of", "item_index"],
                condition=Q(item_of__isnull=False),
            ),
            models.CheckConstraint(
                name="orchestration_stage_item_index_of_items",
                condition=Q(item_of__isnull=True, item_index__isnull=True)
                | Q(item_of__isnull=False, item_index__isnull=False),
            ),
            models.CheckConstraint(
                name="orchestration_stage_status_valid", condition=Q(status__in=list(StageStatus.values))
            ),
            models.CheckConstraint(
                name="orchestration_stage_finished_at_when_finished",
                condition=Q(status__in=FINISHED_STAGE_STATUSES, finished_at__isnull=False)
                | (~Q(status__in=FINISHED_STAGE_STATUSES) & Q(finished_at__isnull=True)),
            ),
            models.CheckConstraint(
                name="orchestration_stage_started_at_when_running",
                condition=~Q(status=StageStatus.RUNNING) | Q(started_at__isnull=False),
            ),
            models.CheckConstraint(
                name="orchestration_stage_queued_at_when_queued",
                condition=~Q(status=StageStatus.QUEUED) | Q(queued_at__isnull=False),
            ),
        )
        indexes = (
            models.Index(name="orchestration_stage_queue", fields=["pool", "status", "dispatch_due_at"]),
            # The next stages of a wide run to dispatch: see `orchestration.services.dispatch_window`.
            models.Index(
                name="orchestration_stage_window",
                fields=["workflow", "dispatch_due_at", "position"],
                condition=Q(status=StageStatus.QUEUED),
            ),
            models.Index(name="orchestration_stage_worker", fields=["worker"], condition=Q(worker__isnull=False)),
            # Only the stages that a run still has to finish: finding the next ones passes no finished sibling.
            models.Index(
                name="orchestration_stage_unfinished",
                fields=["workflow", "step", "position"],
                condition=Q(finished_at__isnull=True),
            ),
            # The scheduler's indexes are partial: they hold only rows with a due time, however many stages exist.
            models.Index(name="orchestration_stage_retry", fields=["retry_at"], condition=Q(retry_at__isnull=False)),
            models.Index(
                name="orchestration_stage_dispatch",
                fields=["dispatch_due_at"],
                condition=Q(dispatch_due_at__isnull=False),
            ),
            models.Index(
                name="orchestration_stage_refused",
                fields=["refused_until"],
                condition=Q(refused_until__isnull=False),
            ),
            # The next item of a map, and its running items, which its events count, however many have ended.
            models.Index(
                name="orchestration_stage_next_item",
                fields=["item_of", "item_index"],
                condition=Q(item_of__isnull=False, status=StageStatus.PENDING, retry_at__isnull=True),
            ),
            models.Index(name="orchestration_stage_run_items", fields=["item_of"], condition=_RUNNING_ITEM),
            models.Index(name="orchestration_stage_held", fields=["workflow"], condition=Q(held=True)),
            models.Index(
                name="orchestration_stage_lease",
                fields=["lease_expires_at"],
                condition=Q(lease_expires_at__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return f"{self.workflow_id}/{self.name}"

    @property
    def requirement_names(self) -> list[str]:
        """The names in `requirements`."""
        return self.requirements.splitlines()

    @cached_property
    def stage_plan(self) -> StagePlan:
        """Return the options of a stage that the engine runs; a stage of an external orchestrator has none."""
        assert self.plan is not None, f"stage {self} has no plan"
        return StagePlan.from_json(self.plan)

    def lock_row(self, using: str) -> TrackedState | None:
        """Lock the worker, the workflow and then this stage, and reload `self.workflow`."""
        if self.worker_id is not None:
            Worker.objects.using(using).select_for_update(no_key=True).filter(pk=self.worker_id).first()
        self.workflow = Workflow.objects.using(using).select_for_update(no_key=True).get(pk=self.workflow_id)
        return super().lock_row(using)

    def derive_fields(self, *, before: TrackedState | None, at: datetime) -> None:
        entered = before is None or before.status != self.status
        # Each due time of the scheduler belongs to one status and is cleared with it.
        self.retry_at = self.retry_at if self.status == StageStatus.PENDING else None
        self.dispatch_due_at = self.dispatch_due_at if self.status == StageStatus.QUEUED else None
        self.refused_until = self.refused_until if self.status == StageStatus.QUEUED else None
        self.lease_expires_at = self.lease_expires_at if self.status == StageStatus.RUNNING else None
        if self.status == StageStatus.QUEUED:
            self.queued_at = at if entered else self.queued_at
        elif self.status == StageStatus.RUNNING:
            self.started_at = at if entered else self.started_at
        self.finished_at = (self.finished_at or at) if self.status in FINISHED_STAGE_STATUSES else None

    def derived_fields(self) -> tuple[str, ...]:
        return (
            *("queued_at", "started_at", "finished_at"),
            *("retry_at", "dispatch_due_at", "refused_until", "lease_expires_at"),
        )

    def on_change(self, *, before: TrackedState | None, after: TrackedState, at: datetime, using: str) -> None:
        entered = before is None or before.status != after.status
        completed_before = before is not None and before.status == StageStatus.COMPLETED
        self._count_in_workflow(
            added=int(before is None),
            completed=int(after.status == StageStatus.COMPLETED) - int(completed_before),
            at=at,
            using=using,
        )
        delta = PoolCounterDelta()
        if before is not None:
            delta.add_stage(before.pool_id, before.status, -1)
        delta.add_stage(after.pool_id, after.status, 1)
        if entered:
            delta.add_finished_stage(after.pool_id, after.status)
        delta.write(at=at, using=using)
        if before is None:
            signals.stage_added.send(sender=Stage, stage=self, at=at)
        if after.status == (StageStatus.PENDING if before is None else before.status):
            return
        if after.status == StageStatus.PENDING and self.ended_attempt is not None:
            signal = signals.stage_released if self.ended_attempt.is_given_back else signals.stage_retrying
            signal.send(sender=Stage, stage=self, failed=self.ended_attempt, at=at)
        elif after.status == StageStatus.QUEUED:
            signals.stages_queued.send(sender=Stage, workflow=self.workflow, stages=[self], at=at)
        elif after.status != StageStatus.WAITING or not self.announces_wait:
            _SIGNALS.get(after.status, signals.stage_status_changed).send(sender=Stage, stage=self, at=at)

    def _count_in_workflow(self, *, added: int, completed: int, at: datetime, using: str) -> None:
        if self.item_of_id is not None or not (added or completed):
            return  # A workflow counts a stage with items once.
        if (unit := current_unit()) is not None:
            unit.update(self.workflow, ("total_stages", "stages_completed", "updated_at"))
        else:
            amounts = {"total_stages": added, "stages_completed": completed}
            add_to_row(Workflow, self.workflow_id, amounts=amounts, values={"updated_at": at}, using=using)
        if added > 0 and unit is None:
            self.workflow.refresh_from_db(using=using, fields=["total_stages", "stages_completed", "updated_at"])
            return
        # The workflow in memory was read under lock: update it instead of reading it again.
        self.workflow.total_stages += added
        self.workflow.stages_completed += completed
        self.workflow.updated_at = at
