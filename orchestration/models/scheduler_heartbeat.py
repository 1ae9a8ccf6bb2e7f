"""Whether a scheduler runs."""

from __future__ import annotations

from django.db import models


class SchedulerHeartbeat(models.Model):
    """The sign of life of whatever schedulers run: a single row."""

    id = models.PositiveSmallIntegerField(primary_key=True, default=1, editable=False)
    heartbeat_at = models.DateTimeField(
        null=True, help_text="When one was last heard of, by the clock of the database."
    )

    class Meta:
        constraints = (models.CheckConstraint(condition=models.Q(id=1), name="orchestration_one_scheduler_heartbeat"),)

    def __str__(self) -> str:
        return f"seen at {self.heartbeat_at}"
