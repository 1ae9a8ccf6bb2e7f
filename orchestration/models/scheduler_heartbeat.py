"""The heartbeat that shows whether a scheduler runs."""

from __future__ import annotations

from django.db import models


class SchedulerHeartbeat(models.Model):
    """The last heartbeat of any scheduler, in a single row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    heartbeat_at = models.DateTimeField(
        null=True, help_text="Last heartbeat of any scheduler (database clock); empty if all have stopped."
    )
    stuck_jobs = models.TextField(
        blank=True, db_default="", help_text="Jobs in which something has failed for a while, separated by commas."
    )

    class Meta:
        constraints = (
            models.CheckConstraint(condition=models.Q(id=1), name="orchestration_scheduler_heartbeat_single"),
        )

    def __str__(self) -> str:
        return f"last heartbeat at {self.heartbeat_at}"
