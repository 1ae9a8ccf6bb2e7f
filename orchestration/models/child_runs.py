"""What a stage has started as sub-runs, and which of them it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django.db import models
from django.dispatch import receiver

from orchestration import signals
from orchestration.models.stage import Stage
from orchestration.models.statuses import StageStatus

MAX_LISTED_AWAITED: Final = 20
"""Sub-runs that a stage waits for, and that its state and its event list. It may wait for 1000."""


class ChildRuns(models.Model):
    """The sub-runs of a stage. A stage has its row from the moment at which it starts the first one."""

    stage = models.OneToOneField(Stage, on_delete=models.CASCADE, primary_key=True, related_name="child_runs")
    generation = models.PositiveIntegerField(
        default=0, help_text="How often the completed stage was to run again: then it starts other sub-runs."
    )
    waits_for = models.JSONField(null=True, help_text="The ids of the sub-runs that it waits for, in order.")
    max_failed = models.PositiveIntegerField(default=0, help_text="How many of these may fail.")
    is_list = models.BooleanField(default=False, help_text="Whether its output is a list: the output of each sub-run.")

    def __str__(self) -> str:
        return f"{self.stage_id}: {self.waits_for}"


@receiver(signals.stage_status_changed)
def _forget_earlier_wait(stage: Stage, awaited_runs: Sequence[str] = (), **_: Any) -> None:
    """Forget the sub-runs of an earlier wait if another application lets a stage wait: its reason is unknown."""
    if stage.status == StageStatus.WAITING and not awaited_runs:
        ChildRuns.objects.filter(pk=stage.pk).update(waits_for=None)
