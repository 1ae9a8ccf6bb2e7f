"""The items of a stage that runs once for each value of a list."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q

from orchestration.models.stage import Stage


class StageMap(models.Model):
    """What a stage that waits for its items counts. Each item is a stage too: `Stage.item_of`.

    A map has its row from the moment at which its values are known.
    """

    stage = models.OneToOneField(Stage, on_delete=models.CASCADE, primary_key=True, related_name="map")
    values = models.JSONField(default=list, editable=False, help_text="The value of each item.")
    total = models.PositiveIntegerField(help_text="How many items there are.")
    stored = models.PositiveIntegerField(default=0, help_text="How many items have a row, the first ones.")
    completed = models.PositiveIntegerField(default=0, help_text="How many items are completed.")
    failed = models.PositiveIntegerField(default=0, help_text="How many items have failed.")
    # What clients know: the counts of the last event.
    published_completed = models.PositiveIntegerField(default=0, editable=False)
    published_failed = models.PositiveIntegerField(default=0, editable=False)
    published_running = models.PositiveIntegerField(default=0, editable=False)
    # On the database clock.
    published_at = models.DateTimeField(null=True, editable=False)
    dirty_since = models.DateTimeField(
        null=True, editable=False, help_text="Since when the counts differ from those of the last event."
    )

    class Meta:
        constraints = (
            models.CheckConstraint(name="orchestration_stagemap_stored_valid", condition=Q(stored__lte=F("total"))),
            models.CheckConstraint(
                name="orchestration_stagemap_ended_valid", condition=Q(stored__gte=F("completed") + F("failed"))
            ),
        )
        indexes = (
            models.Index(
                name="orchestration_stagemap_dirty", fields=["dirty_since"], condition=Q(dirty_since__isnull=False)
            ),
        )

    def __str__(self) -> str:
        return f"{self.stage_id}: {self.completed} of {self.total}"
