"""What stages wait for without a slot, and answers that come before."""

from __future__ import annotations

from typing import Final, Self

from django.db import models
from django.db.models import Q

from orchestration.db.clock import database_now
from orchestration.models.stage import Stage
from orchestration.models.statuses import WaitKind, WaitStatus
from orchestration.models.workflow import Workflow

MAX_WAIT_NAME_LENGTH: Final = 128
MAX_WAIT_TITLE_LENGTH: Final = 500
MAX_FORM_LENGTH: Final = 255
MAX_ANSWERED_BY_LENGTH: Final = 200

_ENDED: Final = (WaitStatus.ANSWERED.value, WaitStatus.EXPIRED.value)


class WaitQuerySet(models.QuerySet["Wait"]):
    """Waits, and which of them an answer or a signal is for."""

    def open(self) -> Self:
        """Return those that wait, also if their time is over and the scheduler has not ended them yet."""
        return self.filter(status=WaitStatus.OPEN)

    def open_questions(self) -> Self:
        """Return those that ask now."""
        return self.open().filter(kind=WaitKind.ASK)

    def find_question(self, workflow_id: str, name: str, *, wait_id: int | None = None) -> Wait | None:
        """Return the wait that an answer is for: the open one, else the last one; None if nothing asked yet.

        Args:
            workflow_id: The run.
            name: The name of the wait.
            wait_id: Its primary key, if it may be no other one.
        """
        waits = self.filter(workflow_id=workflow_id, name=name, kind=WaitKind.ASK)
        if wait_id is not None:
            return waits.filter(pk=wait_id).first()
        last = waits.order_by("-pk")
        return last.open().first() or last.first()

    def find_signal_taker(self, workflow_id: str, name: str) -> Wait | None:
        """Return the wait that a signal is for: the oldest open one; None if the signal is kept for the next.

        One whose time is over takes none, although the scheduler has not ended it yet.
        """
        waits = self.open().filter(workflow_id=workflow_id, name=name, kind=WaitKind.SIGNAL)
        return waits.filter(Q(due_at=None) | Q(due_at__gt=database_now())).order_by("pk").first()


class Wait(models.Model):
    """What a stage waits for, or waited for. A stage has one open wait at most, and then the status `waiting`.

    It is answered once: by the first valid answer, under the lock of the workflow.
    """

    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="waits", db_index=False)
    stage = models.ForeignKey(Stage, on_delete=models.CASCADE, related_name="waits", db_index=False)
    name = models.CharField(max_length=MAX_WAIT_NAME_LENGTH)
    number = models.PositiveIntegerField(default=0, help_text="How often the stage has waited for this name before.")
    kind = models.CharField(max_length=16, choices=WaitKind.choices)
    status = models.CharField(max_length=16, choices=WaitStatus.choices, default=WaitStatus.OPEN)
    title = models.CharField(max_length=MAX_WAIT_TITLE_LENGTH, blank=True)
    form = models.CharField(
        max_length=MAX_FORM_LENGTH, blank=True, help_text="The class of the answer: package.module:Class."
    )
    schema = models.JSONField(default=dict, help_text="JSON Schema of the answer.")
    recipients = models.TextField(blank=True, help_text="Who should answer, one on each line.")
    on_timeout = models.JSONField(null=True, help_text='The answer after the time limit: {"value": …}.')
    resumes = models.BooleanField(default=False, help_text="Whether the stage begins again at its end.")
    opened_at = models.DateTimeField()
    # On the database clock.
    expires_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, editable=False, help_text="expires_at while the wait is open.")
    answer = models.JSONField(null=True, blank=True)
    answered_by = models.CharField(max_length=MAX_ANSWERED_BY_LENGTH, blank=True)
    answered_at = models.DateTimeField(null=True, blank=True)

    objects = WaitQuerySet.as_manager()

    class Meta:
        ordering = ("pk",)
        constraints = (
            models.UniqueConstraint(name="orchestration_wait_unique", fields=["stage", "name", "number"]),
            models.UniqueConstraint(
                name="orchestration_wait_open_unique", fields=["stage"], condition=Q(status=WaitStatus.OPEN)
            ),
            models.CheckConstraint(
                name="orchestration_wait_status_valid", condition=Q(status__in=list(WaitStatus.values))
            ),
            models.CheckConstraint(name="orchestration_wait_kind_valid", condition=Q(kind__in=list(WaitKind.values))),
            models.CheckConstraint(
                name="orchestration_wait_answered_at_when_ended",
                condition=Q(status__in=_ENDED, answered_at__isnull=False)
                | (~Q(status__in=_ENDED) & Q(answered_at__isnull=True)),
            ),
        )
        indexes = (
            models.Index(name="orchestration_wait_name", fields=["workflow", "name"]),
            # The two orders of `list_waits`.
            models.Index(name="orchestration_wait_workflow", fields=["workflow", "opened_at", "id"]),
            models.Index(name="orchestration_wait_list", fields=["status", "opened_at", "id"]),
            # Without a status in the condition: SQLite would not use it for a query with parameters.
            models.Index(name="orchestration_wait_due", fields=["due_at"], condition=Q(due_at__isnull=False)),
        )

    def __str__(self) -> str:
        return f"{self.workflow_id}/{self.name}"

    @property
    def recipient_list(self) -> list[str]:
        """The lines of `recipients`."""
        return self.recipients.splitlines()


class EarlyAnswer(models.Model):
    """An answer, or a signal, for which no stage waits yet. The wait that opens next takes the oldest one."""

    workflow = models.ForeignKey(Workflow, on_delete=models.CASCADE, related_name="early_answers", db_index=False)
    kind = models.CharField(max_length=16, choices=WaitKind.choices)
    name = models.CharField(max_length=MAX_WAIT_NAME_LENGTH)
    answer = models.JSONField(null=True)
    answered_by = models.CharField(max_length=MAX_ANSWERED_BY_LENGTH, blank=True)
    answered_at = models.DateTimeField()

    class Meta:
        ordering = ("pk",)
        constraints = (
            models.CheckConstraint(
                name="orchestration_early_answer_kind_valid",
                condition=Q(kind__in=[WaitKind.ASK.value, WaitKind.SIGNAL.value]),
            ),
        )
        indexes = (models.Index(name="orchestration_early_answer", fields=["workflow", "kind", "name", "id"]),)

    def __str__(self) -> str:
        return f"{self.workflow_id}/{self.name}"
