"""Record the progress and the messages of a running stage. Reports of an attempt that no longer runs are ignored."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from orchestration import signals
from orchestration.models import Stage
from orchestration.services import validation
from orchestration.services.row_locks import running_attempt


def report_progress(
    stage_id: int, attempt: int, *, progress: float, message: str = "", at: datetime | None = None
) -> bool:
    """Record the progress of an attempt, from 0 to 1. Return False if the attempt no longer runs.

    Raises:
        InvalidArgument
    """
    at = validation.timestamp(at)
    if not 0 <= progress <= 1:
        raise validation.InvalidArgument("progress", progress, "a number from 0 to 1")
    values = {"progress": float(progress), "progress_message": validation.text("message", message)}
    with transaction.atomic():
        if not running_attempt(stage_id, attempt).update(**values):
            return False
        stage = Stage.objects.get(pk=stage_id)
        signals.stage_progressed.send(sender=Stage, stage=stage, at=at)
    return True


def report_message(stage_id: int, attempt: int, *, message: str, at: datetime | None = None) -> bool:
    """Send a message of an attempt to the subscribers of its workflow. Return False if the attempt no longer runs.

    Raises:
        InvalidArgument
    """
    at = validation.timestamp(at)
    validation.text("message", message)
    with transaction.atomic():
        stage = running_attempt(stage_id, attempt).first()
        if stage is None:
            return False
        signals.stage_logged.send(sender=Stage, stage=stage, message=message, at=at)
    return True
