"""Events of what a running or waiting stage reports: progress, messages, steps, streams, and how far its items are."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Self

from django.dispatch import Signal

from orchestration import signals
from orchestration.models import Stage, StageMap
from realtime.events.types.stage import StageEvent


class WorkflowStageProgress(StageEvent, kw_only=True):
    """A running stage reports progress: `progress` is from 0 to 1, `message` may be empty."""

    event: ClassVar[str] = "workflow.stage_progress"
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

    event: ClassVar[str] = "workflow.stage_log"
    signal: ClassVar[Signal] = signals.stage_logged
    sample: ClassVar[dict[str, Any]] = {"stage_name": "test", "message": "A test"}
    message: str

    @classmethod
    def from_signal(cls, *, stage: Stage, at: datetime, **arguments: Any) -> Self:
        return cls._build(stage, stage_name=stage.name, message=arguments["message"], timestamp=at)


class WorkflowStepCompleted(StageEvent, kw_only=True):
    """A step inside a running stage completes. Steps that follow each other quickly share an event.

    Attributes:
        step_name: The name of the step, the last one if several share the event.
        cached: Whether its output was read, because an earlier attempt had completed it.
        steps_completed: How many steps the attempt has completed so far, with the cached ones.
    """

    event: ClassVar[str] = "workflow.step_completed"
    signal: ClassVar[Signal] = signals.stage_step_completed
    sample: ClassVar[dict[str, Any]] = {
        "stage_name": "test",
        "step_name": "test",
        "cached": False,
        "steps_completed": 1,
    }
    step_name: str
    cached: bool
    steps_completed: int

    @classmethod
    def from_signal(cls, *, stage: Stage, at: datetime, **arguments: Any) -> Self:
        values = {name: arguments[name] for name in ("cached", "steps_completed")}
        return cls._build(stage, stage_name=stage.name, step_name=arguments["step"], **values, timestamp=at)


class WorkflowStreamOpened(StageEvent, kw_only=True):
    """A running stage opens a stream of chunks. They are delivered by the channel of the stream, not by events.

    Attributes:
        stream_name: The name of the stream.
        attempt: The attempt that writes it.
        content_type: `text` or `bytes`.
    """

    event: ClassVar[str] = "workflow.stream_opened"
    signal: ClassVar[Signal] = signals.stream_opened
    sample: ClassVar[dict[str, Any]] = {
        "stage_name": "test",
        "stream_name": "test",
        "attempt": 1,
        "content_type": "text",
    }
    stream_name: str
    attempt: int
    content_type: str

    @classmethod
    def from_signal(cls, *, stage: Stage, at: datetime, **arguments: Any) -> Self:
        values = {"stream_name": arguments["name"], "content_type": arguments["content_type"]}
        return cls._build(stage, stage_name=stage.name, **values, timestamp=at)


class MapEvent(StageEvent, kw_only=True):
    """An event of a stage that waits for its items.

    Attributes:
        total: How many items it has.
        completed: How many of them are completed.
        failed: How many have failed.
        running: How many run.
    """

    sample: ClassVar[dict[str, Any]] = {"stage_name": "test", "total": 2, "completed": 0, "failed": 0, "running": 0}
    total: int
    completed: int
    failed: int
    running: int

    @classmethod
    def from_signal(cls, *, stage: Stage, at: datetime, **arguments: Any) -> Self:
        stage_map: StageMap = arguments["stage_map"]
        counts = {
            "total": stage_map.total,
            "completed": stage_map.published_completed,
            "failed": stage_map.published_failed,
            "running": stage_map.published_running,
        }
        return cls._build(stage, stage_name=stage.name, **counts, timestamp=at)


class WorkflowMapStarted(MapEvent, kw_only=True):
    """A stage waits for its items, which run once for each value of a list, or run again."""

    event: ClassVar[str] = "workflow.map_started"
    signal: ClassVar[Signal] = signals.map_started


class WorkflowMapProgress(MapEvent, kw_only=True):
    """The counts of the items of a waiting stage have changed."""

    event: ClassVar[str] = "workflow.map_progress"
    signal: ClassVar[Signal] = signals.map_progressed
