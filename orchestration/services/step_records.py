"""Store what the steps inside a stage returned, so that later attempts do not repeat them.

Only the running attempt of a stage reads and stores steps. An attempt that was lost meanwhile, but whose process still
runs, is refused: it would otherwise change what the next attempt finds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import transaction

from orchestration import signals
from orchestration.models import Stage, StepRecord
from orchestration.models.step_record import MAX_STEP_NAME_LENGTH
from orchestration.services import validation
from orchestration.services.errors import ServiceError
from orchestration.services.row_locks import AttemptEnded, running_attempt


class StepConflict(ServiceError):
    """The stage has completed a step of this name with other arguments."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)

    def __str__(self) -> str:
        return (
            f"Step {self.name} was completed with other arguments; "
            "expected the same arguments for each call, or another name."
        )


class TooManySteps(ServiceError):
    """The stage has as many steps as it may have."""

    def __init__(self, name: str, max_steps: int) -> None:
        self.name = name
        self.max_steps = max_steps
        super().__init__(name, max_steps)

    def __str__(self) -> str:
        return f"Step {self.name} is not started: a stage may have {self.max_steps} steps."


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredStep:
    """A completed step.

    Attributes:
        output: What it returned, as read back from JSON.
    """

    output: Any


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """What subscribers receive about a step.

    Attributes:
        name: The name of the step.
        cached: Whether its output was read, because an earlier call had completed it.
        steps_completed: How many steps the attempt has completed so far, with this one and the cached ones.
    """

    name: str
    cached: bool
    steps_completed: int


def find_step(stage_id: int, attempt: int, *, name: str, arguments_digest: str, max_steps: int) -> StoredStep | None:
    """Return the completed step of this name; None if the attempt must execute it.

    Args:
        stage_id: The stage.
        attempt: The number of the attempt.
        name: The name of the step.
        arguments_digest: SHA-256 of its arguments.
        max_steps: How many steps a stage may have.

    Raises:
        InvalidArgument: if the name is blank or too long.
        AttemptEnded: if the attempt no longer runs.
        StepConflict: if the step was completed with other arguments.
        TooManySteps: if it would be one more than the stage may have.
    """
    validation.text("step", name, max_length=MAX_STEP_NAME_LENGTH, may_be_empty=False)
    if not running_attempt(stage_id, attempt).exists():
        raise AttemptEnded(stage_id, attempt)
    records = StepRecord.objects.filter(stage_id=stage_id)
    record = records.filter(name=name).only("arguments_digest", "output").first()
    if record is not None:
        return _stored(record, name, arguments_digest)
    if records.count() >= max_steps:
        raise TooManySteps(name, max_steps)
    return None


def store_step(
    stage_id: int,
    attempt: int,
    *,
    name: str,
    arguments_digest: str,
    output: Any,
    output_bytes: int,
    report: StepReport | None = None,
    at: datetime | None = None,
) -> StoredStep:
    """Store the output of a step, if the attempt is still the running one of its stage. Repeated calls change nothing.

    Args:
        stage_id: The stage.
        attempt: The number of the attempt.
        name: The name of the step.
        arguments_digest: SHA-256 of its arguments.
        output: JSON, checked by the caller.
        output_bytes: Its size as JSON.
        report: What is sent to subscribers in the same transaction; None for nothing.
        at: The time of the change; None means now.

    Raises:
        AttemptEnded: if the attempt no longer runs.
        StepConflict: if another process of the attempt has completed the step with other arguments.
    """
    at = validation.timestamp(at)
    with transaction.atomic():
        # Under the lock of the stage: no transaction can end the attempt before this one is committed.
        stage = (
            running_attempt(stage_id, attempt).select_for_update(no_key=True).only("pk", "name", "workflow_id").first()
        )
        if stage is None:
            raise AttemptEnded(stage_id, attempt)
        record, created = StepRecord.objects.get_or_create(
            stage_id=stage_id,
            name=name,
            defaults={
                "attempt": attempt,
                "arguments_digest": arguments_digest,
                "output": output,
                "output_bytes": output_bytes,
                "completed_at": at,
            },
        )
        if created and report is not None:
            _send(stage, report, at=at)
    return _stored(record, name, arguments_digest)


def report_step(stage_id: int, attempt: int, *, report: StepReport, at: datetime | None = None) -> bool:
    """Notify subscribers of a step that is stored. Return False if the attempt no longer runs."""
    at = validation.timestamp(at)
    with transaction.atomic():
        stage = running_attempt(stage_id, attempt).first()
        if stage is None:
            return False
        _send(stage, report, at=at)
    return True


def forget_steps(stage_ids: Collection[int]) -> None:
    """Delete the steps of these stages, which begin anew."""
    StepRecord.objects.filter(stage__in=stage_ids).delete()


def _stored(record: StepRecord, name: str, arguments_digest: str) -> StoredStep:
    if record.arguments_digest != arguments_digest:
        raise StepConflict(name)
    return StoredStep(output=record.output)


def _send(stage: Stage, report: StepReport, *, at: datetime) -> None:
    signals.stage_step_completed.send(
        sender=Stage,
        stage=stage,
        step=report.name,
        cached=report.cached,
        steps_completed=report.steps_completed,
        at=at,
    )
