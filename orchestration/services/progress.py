"""What a running stage says of itself while it runs. An attempt that is no longer the stage's is not listened to."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import QuerySet

from orchestration import signals
from orchestration.models import Stage, StageStatus
from orchestration.services import validation


def report_progress(
    stage_id: int, attempt: int, *, progress: float, message: str = "", at: datetime | None = None
) -> bool:
    """Record how far an attempt is, from 0 to 1. False if it is no longer the stage's.

    Raises:
        InvalidArgument
    """
    at = validation.moment(at)
    if not 0 <= progress <= 1:
        raise validation.InvalidArgument("progress", progress, "a number from 0 to 1")
    told = {"progress": float(progress), "progress_message": validation.text("message", message)}
    with transaction.atomic():
        if not _running(stage_id, attempt).update(**told):
            return False
        stage = Stage.objects.get(pk=stage_id)
        signals.stage_progressed.send(sender=Stage, stage=stage, at=at)
    return True


def report_message(stage_id: int, attempt: int, *, message: str, at: datetime | None = None) -> bool:
    """Tell whoever follows the run what an attempt has to say. False if it is no longer the stage's.

    Raises:
        InvalidArgument
    """
    at = validation.moment(at)
    validation.text("message", message)
    with transaction.atomic():
        stage = _running(stage_id, attempt).first()
        if stage is None:
            return False
        signals.stage_logged.send(sender=Stage, stage=stage, message=message, at=at)
    return True


def _running(stage_id: int, attempt: int) -> QuerySet[Stage]:
    return Stage.objects.filter(pk=stage_id, attempt=attempt, status=StageStatus.RUNNING)
