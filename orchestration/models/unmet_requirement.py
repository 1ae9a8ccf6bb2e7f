"""A requirement of stages that a worker lacked."""

from __future__ import annotations

from django.db import models

from orchestration.models.worker import Worker
from orchestration.models.workflow import MAX_NEEDS_LENGTH


class UnmetRequirement(models.Model):
    """What a worker lacked for a stage that it was offered. It applies to the whole process, until that is restarted.

    It is deleted when a worker of the process starts a stage that needs this after all or, if it was found at run time,
    when one completes.
    """

    worker = models.ForeignKey(Worker, on_delete=models.CASCADE, related_name="unmet_requirements", db_index=False)
    name = models.CharField(max_length=MAX_NEEDS_LENGTH, help_text="Such as `shop.workflows:load` or `program ffmpeg`.")
    found_at_run_time = models.BooleanField(
        default=False, help_text="Whether a stage found it missing while it ran. A check before that may not."
    )

    class Meta:
        constraints = (
            models.UniqueConstraint(name="orchestration_unmet_requirement_unique", fields=["worker", "name"]),
        )

    def __str__(self) -> str:
        return self.name
