"""The record of a durable step inside a stage: what it returned, for later attempts."""

from __future__ import annotations

from typing import Final

from django.db import models
from django.utils import timezone

from orchestration.models.stage import Stage

MAX_STEP_NAME_LENGTH: Final = 128


class StepRecord(models.Model):
    """A completed step, written once. Later attempts at the stage read its output instead of repeating the step."""

    stage = models.ForeignKey(Stage, on_delete=models.CASCADE, related_name="step_records", db_index=False)
    name = models.CharField(max_length=MAX_STEP_NAME_LENGTH)
    attempt = models.PositiveIntegerField(help_text="The attempt that completed it.")
    arguments_digest = models.CharField(max_length=64, help_text="SHA-256 of its arguments as JSON, in hexadecimal.")
    output = models.JSONField(null=True, help_text="What it returned.")
    output_bytes = models.PositiveBigIntegerField(help_text="Size of the output as JSON.")
    completed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ("stage", "pk")
        constraints = (models.UniqueConstraint(name="orchestration_step_record_unique", fields=["stage", "name"]),)

    def __str__(self) -> str:
        return f"step {self.name} of stage {self.stage_id}"
