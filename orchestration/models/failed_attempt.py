"""The record of an attempt at a stage that failed, timed out or was lost."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils import timezone

from orchestration.identifiers import MAX_IDENTIFIER_LENGTH
from orchestration.models.stage import Stage
from orchestration.models.statuses import FailureReason


class FailedAttempt(models.Model):
    """One unsuccessful attempt, written once. A successful attempt is recorded in the stage row only."""

    stage = models.ForeignKey(Stage, on_delete=models.CASCADE, related_name="failed_attempts", db_index=False)
    attempt = models.PositiveIntegerField(help_text="1 for the first.")
    reason = models.CharField(max_length=16, choices=FailureReason.choices)
    error = models.TextField(help_text="The error that clients receive.")
    traceback = models.TextField(blank=True, help_text="For operators; clients do not receive it.")
    worker_name = models.CharField(
        max_length=MAX_IDENTIFIER_LENGTH, blank=True, help_text="Id of the worker, which may since be deleted."
    )
    started_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("stage", "attempt")
        constraints = (
            models.UniqueConstraint(name="orchestration_failed_attempt_unique", fields=["stage", "attempt"]),
            models.CheckConstraint(
                name="orchestration_failed_attempt_reason_valid",
                condition=Q(reason__in=list(FailureReason.values)),
            ),
        )

    def __str__(self) -> str:
        return f"attempt {self.attempt} at stage {self.stage_id}"

    @property
    def is_given_back(self) -> bool:
        """Whether the stage did not fail: its worker stopped, or cannot run it."""
        return self.reason in (FailureReason.RELEASED, FailureReason.NOT_RUNNABLE)
