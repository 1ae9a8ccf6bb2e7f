"""Events of a workflow's stages. They belong to the channel of the workflow."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, Self, cast

import msgspec
from django.dispatch import Signal

from orchestration import signals
from orchestration.models import FailedAttempt, FailureReason, Stage, Workflow
from orchestration.models.child_runs import MAX_LISTED_AWAITED
from realtime.events.types.base import EventData
from realtime.protocol.channels import items_channel

_WORKFLOW_COUNTS: Final = ("total_stages", "stages_completed")


class StageEvent(EventData, kw_only=True):
    """An event of one stage of a workflow. The counts that it has are those of the workflow.

    Attributes:
        workflow_id: The workflow.
        stage_name: The stage.
        item_of: Of an item, the stage that it belongs to: the event is in the channel of the items of that stage, and
            not in that of the workflow. Absent for other stages.
    """

    rooms_from: ClassVar[tuple[str, ...]] = ("workflow",)
    workflow_id: str
    stage_name: str
    item_of: str | msgspec.UnsetType = msgspec.UNSET

    def rooms(self) -> tuple[str, ...]:
        """Return the channel of the workflow, or that of the items."""
        return super().rooms() if self.item_of is msgspec.UNSET else (items_channel(self.workflow_id, self.item_of),)

    @classmethod
    def _build(cls, resource: object, **values: Any) -> Self:
        return super()._build(resource, item_of=_item_of(cast(Stage, resource)), **values)

    @classmethod
    def from_signal(cls, *, stage: Stage, at: datetime, **_: Any) -> Self:
        counts = {name: getattr(stage.workflow, name) for name in _WORKFLOW_COUNTS if name in cls.__struct_fields__}
        return cls._build(stage, stage_name=stage.name, **counts, timestamp=at)


def _item_of(stage: Stage) -> str | msgspec.UnsetType:
    """Return the name of the stage that an item belongs to, which the name of the item begins with."""
    if stage.item_of_id is None:
        return msgspec.UNSET
    return stage.name.removesuffix(f"[{stage.item_index}]")


class WorkflowStagesQueued(EventData, kw_only=True):
    """Stages of a workflow are queued: those in `stages` or, if they are many, all that wait in the step `step`.

    Attributes:
        workflow_id: The workflow.
        stages: Their names; null if there are many.
        step: The step; null if `stages` has their names.
        count: Their number.
        item_of: Of items, the stage that they belong to, as in the events of one stage.
    """

    event: ClassVar[str] = "workflow.stages_queued"
    rooms_from: ClassVar[tuple[str, ...]] = ("workflow",)
    signal: ClassVar[Signal] = signals.stages_queued
    sample: ClassVar[dict[str, Any]] = {"stages": ["test"], "step": None, "count": 1}
    workflow_id: str
    stages: list[str] | None
    step: int | None
    count: int
    item_of: str | msgspec.UnsetType = msgspec.UNSET

    def rooms(self) -> tuple[str, ...]:
        """Return the channel of the workflow, or that of the items."""
        return super().rooms() if self.item_of is msgspec.UNSET else (items_channel(self.workflow_id, self.item_of),)

    @classmethod
    def from_signal(
        cls,
        *,
        workflow: Workflow,
        at: datetime,
        stages: Sequence[Stage] | None = None,
        step: int | None = None,
        count: int = 0,
        **_: Any,
    ) -> Self:
        names = None if stages is None else [stage.name for stage in stages]
        number = count if names is None else len(names)
        item_of = _item_of(stages[0]) if stages else msgspec.UNSET
        return cls(workflow_id=workflow.pk, stages=names, step=step, count=number, item_of=item_of, timestamp=at)


class WorkflowStageStarted(StageEvent, kw_only=True):
    """A stage begins. `worker_id` is null where the worker is unknown. `attempt` counts its starts."""

    event: ClassVar[str] = "workflow.stage_started"
    signal: ClassVar[Signal] = signals.stage_started
    sample: ClassVar[dict[str, Any]] = {"stage_name": "test", "worker_id": None, "attempt": 1}
    worker_id: str | None
    attempt: int


class WorkflowStageCompleted(StageEvent, kw_only=True):
    """A stage completes.

    Attributes:
        result: An object with `duration_ms` and the stage's own fields, such as `output`.
        duration_ms: How long it took, in milliseconds.
        stages_completed: How many stages of the workflow have completed.
    """

    event: ClassVar[str] = "workflow.stage_completed"
    signal: ClassVar[Signal] = signals.stage_completed
    sample: ClassVar[dict[str, Any]] = {
        "stage_name": "test",
        "result": {"output": "Success", "duration_ms": 0},
        "duration_ms": 0,
        "stages_completed": 1,
    }
    result: Any
    duration_ms: int | None
    stages_completed: int


class WorkflowStageRetrying(StageEvent, kw_only=True):
    """An attempt at a stage fails and another one follows: at `retry_at`, or at once if that is null.

    Attributes:
        attempt: The number of the attempt that failed.
        reason: `failed`, `timed_out` or, if its worker was lost, `lost`.
        error: The error of that attempt.
        retry_at: When the next one starts; null if `workflow.stages_queued` follows.
        last_attempt: Number of the attempt after which a failure is final.
    """

    event: ClassVar[str] = "workflow.stage_retrying"
    signal: ClassVar[Signal] = signals.stage_retrying
    sample: ClassVar[dict[str, Any]] = {
        "stage_name": "test",
        "attempt": 1,
        "reason": "failed",
        "error": "A test",
        "retry_at": None,
        "last_attempt": 2,
    }
    attempt: int
    reason: str
    error: str
    retry_at: datetime | None
    last_attempt: int

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
        retry_at: When it is queued again; null if `workflow.stages_queued` follows.
        last_attempt: Number of the attempt after which a failure is final.
    """

    event: ClassVar[str] = "workflow.stage_released"
    signal: ClassVar[Signal] = signals.stage_released
    sample: ClassVar[dict[str, Any]] = {
        "stage_name": "test",
        "attempt": 1,
        "reason": "worker_stopped",
        "retry_at": None,
        "last_attempt": 2,
    }
    attempt: int
    reason: str
    retry_at: datetime | None
    last_attempt: int

    @classmethod
    def from_signal(cls, *, stage: Stage, at: datetime, **arguments: Any) -> Self:
        failed: FailedAttempt = arguments["failed"]
        reason = "worker_stopped" if failed.reason == FailureReason.RELEASED else failed.reason
        attempt = {"attempt": failed.attempt, "reason": reason}
        return cls._build(stage, stage_name=stage.name, **attempt, timestamp=at)


class WorkflowStageFailed(StageEvent, kw_only=True):
    """A stage fails.

    Attributes:
        error: Why.
        duration_ms: How long its last attempt took, in milliseconds.
        last_attempt: Number of the attempt after which a failure is final.
    """

    event: ClassVar[str] = "workflow.stage_failed"
    signal: ClassVar[Signal] = signals.stage_failed
    sample: ClassVar[dict[str, Any]] = {"stage_name": "test", "error": "A test", "duration_ms": 0, "last_attempt": 1}
    error: str
    duration_ms: int | None
    last_attempt: int


class WorkflowStageStatusChanged(StageEvent, kw_only=True):
    """The status of a stage changes to one that no other event is about.

    Attributes:
        status: `skipped`, `waiting` for sub-runs or, by another application, `cancelled` or `pending`.
        stages_completed: How many stages of the workflow have completed.
        reason: Why it is skipped; empty if that is not known.
        waits_for_runs: The first sub-runs that it waits for. Absent unless it waits for some.
        waits_for_count: How many they are, with those that are not listed.
    """

    event: ClassVar[str] = "workflow.stage_status_changed"
    signal: ClassVar[Signal] = signals.stage_status_changed
    sample: ClassVar[dict[str, Any]] = {
        "stage_name": "test",
        "status": "skipped",
        "stages_completed": 0,
        "reason": "",
    }
    status: str
    stages_completed: int
    reason: str = ""  # The log may have events of a release without it.
    waits_for_runs: list[str] | msgspec.UnsetType = msgspec.UNSET
    waits_for_count: int | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def from_signal(cls, *, stage: Stage, at: datetime, awaited_runs: Sequence[str] = (), **_: Any) -> Self:
        completed, awaited = stage.workflow.stages_completed, awaited_runs
        values: dict[str, Any] = {"stages_completed": completed, "reason": stage.skip_reason}
        values["waits_for_runs"] = list(awaited[:MAX_LISTED_AWAITED]) or msgspec.UNSET
        values["waits_for_count"] = len(awaited) or msgspec.UNSET
        return cls._build(stage, stage_name=stage.name, **values, timestamp=at)


class WorkflowStageAdded(StageEvent, kw_only=True):
    """A pending stage is added to a workflow that exists.

    Attributes:
        position: Its position; 0 for the first stage.
        step: Stages of one step run in parallel.
        last_attempt: Number of the attempt after which a failure is final.
        total_stages: How many stages the workflow has now.
        stages_completed: How many of them have completed.
        added_by: The stage that has added it as it completed; null if none has.
        moved_steps: By how many steps the stages of this step and of later ones move first, to make room.
    """

    event: ClassVar[str] = "workflow.stage_added"
    signal: ClassVar[Signal] = signals.stage_added
    sample: ClassVar[dict[str, Any]] = {
        "stage_name": "test",
        "position": 0,
        "step": 0,
        "last_attempt": 1,
        "total_stages": 1,
        "stages_completed": 0,
        "added_by": None,
        "moved_steps": 0,
    }
    position: int
    step: int
    last_attempt: int
    total_stages: int
    stages_completed: int
    # The log may have events of a release without these two.
    added_by: str | None = None
    moved_steps: int = 0

    @classmethod
    def from_signal(cls, *, stage: Stage, at: datetime, moved_steps: int = 0, **_: Any) -> Self:
        counts = {name: getattr(stage.workflow, name) for name in _WORKFLOW_COUNTS}
        added_by = None if stage.added_by is None else stage.added_by.name
        where = {"added_by": added_by, "moved_steps": moved_steps}
        return cls._build(stage, stage_name=stage.name, **counts, **where, timestamp=at)


class WorkflowStageRemoved(StageEvent, kw_only=True):
    """A stage is removed from a workflow, which has the counts `total_stages` and `stages_completed` now."""

    event: ClassVar[str] = "workflow.stage_removed"
    signal: ClassVar[Signal] = signals.stage_removed
    sample: ClassVar[dict[str, Any]] = {"stage_name": "test", "total_stages": 1, "stages_completed": 0}
    total_stages: int
    stages_completed: int
