"""Events of a workflow's stages. They belong to the channel of the workflow."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Self

from django.dispatch import Signal

from orchestration import signals
from orchestration.models import FailedAttempt, FailureReason, Stage
from realtime.events.types.base import EventData


class StageEvent(EventData, kw_only=True):
    """An event of one stage of a workflow."""

    rooms_from: ClassVar[tuple[str, ...]] = ("workflow",)
    workflow_id: str
    stage_name: str

    @classmethod
    def from_signal(cls, *, stage: Stage, at: datetime, **_: Any) -> Self:
        return cls._build(stage, stage_name=stage.name, timestamp=at)


class WorkflowStageStarted(StageEvent, kw_only=True):
    """A stage begins. `worker_id` is null where the worker is unknown."""

    name: ClassVar[str] = "workflow.stage_started"
    signal: ClassVar[Signal] = signals.stage_started
    sample: ClassVar[dict[str, Any]] = {"stage_name": "test", "worker_id": None}
    worker_id: str | None


class WorkflowStageProgress(StageEvent, kw_only=True):
    """A running stage reports progress: `progress` is from 0 to 1, `message` may be empty."""

    name: ClassVar[str] = "workflow.stage_progress"
    signal: ClassVar[Signal] = signals.stage_progressed
    sample: ClassVar[dict[str, Any]] = {"stage_name": "test", "progress": 0.5, "message": "A test"}
    progress: float
    message: str

    @classmethod
    def from_signal(cls, *, stage: Stage, at: datetime, **_: Any) -> Self:
        progress = 0.0 if stage.progress is None else stage.progress
        values = {"progress": progress, "message": stage.progress_message}
        return cls._build(stage, stage_name=stage.name, **values, timestamp=at)


class WorkflowStageLog(StageEvent, kw_only=True):
    """A running stage logs a message."""

    name: ClassVar[str] = "workflow.stage_log"
    signal: ClassVar[Signal] = signals.stage_logged
    sample: ClassVar[dict[str, Any]] = {"stage_name": "test", "message": "A test"}
    message: str

    @classmethod
    def from_signal(cls, *, stage: Stage, at: datetime, **arguments: Any) -> Self:
        return cls._build(stage, stage_name=stage.name, message=arguments["message"], timestamp=at)


class WorkflowStageCompleted(StageEvent, kw_only=True):
    """A stage completes. `result` is an object with `duration_ms` and the stage's own fields, such as `output`."""

    name: ClassVar[str] = "workflow.stage_completed"
    signal: ClassVar[Signal] = signals.stage_completed
    sample: ClassVar[dict[str, Any]] = {"stage_name": "test", "result": {"output": "Success", "duration_ms": 0}}
    result: Any


class WorkflowStageRetrying(StageEvent, kw_only=True):
    """An attempt at a stage fails and another one follows: at `retry_at`, or at once if that is null.

    Attributes:
        attempt: The number of the attempt that failed.
        reason: `failed`, `timed_out` or, if its worker was lost, `lost`.
    """

    name: ClassVar[str] = "workflow.stage_retrying"
    signal: ClassVar[Signal] = signals.stage_retrying
    sample: ClassVar[dict[str, Any]] = {
        "stage_name": "test",
        "attempt": 1,
        "reason": "failed",
        "error": "A test",
        "retry_at": None,
    }
    attempt: int
    reason: str
    error: str
    retry_at: datetime | None

    @classmethod
    def from_signal(cls, *, stage: Stage, at: datetime, **arguments: Any) -> Self:
        failed: FailedAttempt = arguments["failed"]
        attempt = {"attempt": failed.attempt, "reason": failed.reason, "error": failed.error}
        return cls._build(stage, stage_name=stage.name, **attempt, timestamp=at)


class WorkflowStageReleased(StageEvent, kw_only=True):
    """An attempt at a stage is given back, and the stage waits for another worker. The attempt has not failed.

    Attributes:
        attempt: The number of the attempt.
        reason: `worker_stopped`, or `not_runnable` if the worker lacks something that the stage needs.
    """

    name: ClassVar[str] = "workflow.stage_released"
    signal: ClassVar[Signal] = signals.stage_released
    sample: ClassVar[dict[str, Any]] = {"stage_name": "test", "attempt": 1, "reason": "worker_stopped"}
    attempt: int
    reason: str

    @classmethod
    def from_signal(cls, *, stage: Stage, at: datetime, **arguments: Any) -> Self:
        failed: FailedAttempt = arguments["failed"]
        reason = "worker_stopped" if failed.reason == FailureReason.RELEASED else failed.reason
        attempt = {"attempt": failed.attempt, "reason": reason}
        return cls._build(stage, stage_name=stage.name, **attempt, timestamp=at)


class WorkflowStageFailed(StageEvent, kw_only=True):
    """A stage fails."""

    name: ClassVar[str] = "workflow.stage_failed"
    signal: ClassVar[Signal] = signals.stage_failed
    sample: ClassVar[dict[str, Any]] = {"stage_name": "test", "error": "A test"}
    error: str
