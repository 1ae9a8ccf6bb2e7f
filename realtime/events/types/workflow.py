"""Events of a workflow as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, ClassVar, Final, Self

import msgspec
from django.dispatch import Signal

from orchestration import signals
from orchestration.models import Stage, Workflow
from realtime.events.types.base import EventData

MAX_LISTED_ROWS: Final = 1000
"""Stages that one event lists. The data of more would exceed the limit of an event."""

_NEW_STAGE_COLUMNS: Final = ("name", "step", "last_attempt")


class NewStage(msgspec.Struct, kw_only=True):
    """A pending stage.

    Attributes:
        stage_name: Its name.
        step: Stages of one step run in parallel.
        last_attempt: Number of the attempt after which a failure is final.
    """

    stage_name: str
    step: int
    last_attempt: int

    @classmethod
    def list_of(cls, stages: Sequence[Stage]) -> list[Self]:
        """Return the first `MAX_LISTED_ROWS` of these stages."""
        return [
            cls(stage_name=stage.name, step=stage.step, last_attempt=stage.last_attempt)
            for stage in stages[:MAX_LISTED_ROWS]
        ]


def _family(workflow: Workflow) -> dict[str, Any]:
    """Return the fields of an event that name the parent of a sub-run, and the top of its tree."""
    return {"parent_id": workflow.parent_id or msgspec.UNSET, "root_id": workflow.root_id or msgspec.UNSET}


class WorkflowEvent(EventData, kw_only=True):
    """An event of one workflow. `name` is what it runs, such as the name of the definition; it may be empty."""

    rooms_from: ClassVar[tuple[str, ...]] = ("workflow",)
    sample: ClassVar[dict[str, Any]] = {"name": "test"}
    workflow_id: str
    name: str

    @classmethod
    def from_signal(cls, *, workflow: Workflow, at: datetime, **_: Any) -> Self:
        return cls._build(workflow, workflow_id=workflow.pk, timestamp=at)


class WorkflowCreated(WorkflowEvent, kw_only=True):
    """A workflow is stored and waits to start.

    Attributes:
        adapter: The adapter that runs it.
        prompt: What it is for.
        total_stages: Number of its stages.
        pool_id: The pool that runs it, if any.
        params: Its parameters.
        deadline_at: When it times out, if it has a limit.
        stages: Its stages in order, the first `MAX_LISTED_ROWS`.
        parent_id: The workflow that has started it as a sub-run; unset if none has.
        root_id: The workflow at the top of the tree of a sub-run; unset for others.
    """

    event: ClassVar[str] = "workflow.created"
    signal: ClassVar[Signal] = signals.workflow_created
    sample: ClassVar[dict[str, Any]] = {
        "name": "test",
        "adapter": "python",
        "prompt": "A test",
        "total_stages": 1,
        "pool_id": None,
        "params": {},
        "deadline_at": None,
        "stages": [],
    }
    adapter: str
    prompt: str
    total_stages: int
    pool_id: str | None
    params: dict[str, Any]
    deadline_at: datetime | None
    stages: list[NewStage]
    parent_id: str | msgspec.UnsetType = msgspec.UNSET
    root_id: str | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def from_signal(cls, *, workflow: Workflow, at: datetime, **_: Any) -> Self:
        stages = workflow.new_stages
        if stages is None:  # Stored by another application.
            stages = list(workflow.stages.order_by("position").only(*_NEW_STAGE_COLUMNS)[:MAX_LISTED_ROWS])
        listed = NewStage.list_of(stages)
        return cls._build_new(workflow, workflow_id=workflow.pk, stages=listed, timestamp=at, **_family(workflow))


class WorkflowStarted(WorkflowEvent, kw_only=True):
    """A workflow's execution begins."""

    event: ClassVar[str] = "workflow.started"
    signal: ClassVar[Signal] = signals.workflow_started
    sample: ClassVar[dict[str, Any]] = {"name": "test", "adapter": "python", "prompt": "A test"}
    adapter: str
    prompt: str


class WorkflowMoved(WorkflowEvent, kw_only=True):
    """A workflow moves from the pool `from_pool_id` to the pool `pool_id`. Either may be null."""

    event: ClassVar[str] = "workflow.moved"
    signal: ClassVar[Signal] = signals.workflow_moved
    sample: ClassVar[dict[str, Any]] = {"name": "test", "pool_id": "pool_local", "from_pool_id": None}
    pool_id: str | None
    from_pool_id: str | None

    @classmethod
    def from_signal(cls, *, workflow: Workflow, at: datetime, **arguments: Any) -> Self:
        return cls._build(workflow, workflow_id=workflow.pk, from_pool_id=arguments["from_pool_id"], timestamp=at)


class WorkflowRetried(WorkflowEvent, kw_only=True):
    """A finished workflow runs again: the named stages are pending. `workflow.started` follows.

    Attributes:
        from_stage: The stage from which it runs again; null if only uncompleted stages do.
        failed_items_only: True if the completed items of `from_stage` stay completed; else absent.
        stages: The stages that run again, the first `MAX_LISTED_ROWS`.
        adapter, prompt, pool_id, total_stages: As in `workflow.created`.
        stages_completed: How many of its stages stay completed.
        created_at, started_at: Its times, which stay.
        parent_id, root_id: As in `workflow.created`.
        deadline_at: When it times out now, if it has a limit.
    """

    event: ClassVar[str] = "workflow.retried"
    signal: ClassVar[Signal] = signals.workflow_retried
    sample: ClassVar[dict[str, Any]] = {
        "name": "test",
        "from_stage": None,
        "stages": [],
        "adapter": "python",
        "prompt": "A test",
        "pool_id": None,
        "total_stages": 1,
        "stages_completed": 0,
        "created_at": "2026-02-10T20:00:00Z",
        "started_at": "2026-02-10T20:00:00Z",
        "deadline_at": None,
    }
    from_stage: str | None
    stages: list[NewStage]
    adapter: str
    prompt: str
    pool_id: str | None
    total_stages: int
    stages_completed: int
    created_at: datetime
    started_at: datetime | None
    deadline_at: datetime | None
    failed_items_only: bool | msgspec.UnsetType = msgspec.UNSET
    parent_id: str | msgspec.UnsetType = msgspec.UNSET
    root_id: str | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def from_signal(cls, *, workflow: Workflow, at: datetime, **arguments: Any) -> Self:
        which = {"from_stage": arguments["from_stage"], "stages": NewStage.list_of(arguments["stages"])}
        which["failed_items_only"] = arguments["failed_items_only"] or msgspec.UNSET
        which.update(_family(workflow))
        return cls._build(workflow, workflow_id=workflow.pk, **which, timestamp=at)


class WorkflowRemoved(WorkflowEvent, kw_only=True):
    """A workflow is removed, with its stages."""

    event: ClassVar[str] = "workflow.removed"
    signal: ClassVar[Signal] = signals.workflow_removed


class WorkflowHeld(WorkflowEvent, kw_only=True):
    """No worker of its pool can take a run now. It stays queued until `workflow.hold_ended`.

    Attributes:
        reason: `no_worker` if its pool has no worker, `no_worker_with` if none of them has what the run needs.
        pool_id: The pool.
        needs: What the workers lack: the code of a stage, such as `shop.workflows:load`, or a release. Empty for
            `no_worker`.
    """

    event: ClassVar[str] = "workflow.held"
    rooms_from: ClassVar[tuple[str, ...]] = ("workflow", "pool")
    signal: ClassVar[Signal] = signals.workflow_held
    sample: ClassVar[dict[str, Any]] = {"name": "test", "reason": "no_worker", "pool_id": "pool_local", "needs": ""}
    reason: str
    pool_id: str
    needs: str

    @classmethod
    def from_signal(cls, *, workflow: Workflow, at: datetime, **_: Any) -> Self:
        why = {"reason": workflow.held_reason, "needs": workflow.held_needs}
        return cls._build(workflow, workflow_id=workflow.pk, **why, timestamp=at)


class WorkflowHoldEnded(WorkflowEvent, kw_only=True):
    """A run is no longer held: a worker may take it now, or it has left the pool `pool_id`, or it is finished."""

    event: ClassVar[str] = "workflow.hold_ended"
    rooms_from: ClassVar[tuple[str, ...]] = ("workflow", "pool")
    signal: ClassVar[Signal] = signals.workflow_hold_ended
    sample: ClassVar[dict[str, Any]] = {"name": "test", "pool_id": "pool_local"}
    pool_id: str


class WorkflowCompleted(WorkflowEvent, kw_only=True):
    """A workflow completes successfully. `result` is an object with `total_duration_ms` and often `final_output`."""

    event: ClassVar[str] = "workflow.completed"
    signal: ClassVar[Signal] = signals.workflow_completed
    sample: ClassVar[dict[str, Any]] = {"name": "test", "result": {"final_output": "A test", "total_duration_ms": 0}}
    result: Any


class WorkflowFailed(WorkflowEvent, kw_only=True):
    """A workflow fails or times out. `status`, an addition to the API reference, is `failed` or `timeout`."""

    event: ClassVar[str] = "workflow.failed"
    signal: ClassVar[Signal] = signals.workflow_failed
    sample: ClassVar[dict[str, Any]] = {"name": "test", "error": "A test", "status": "failed"}
    error: str
    status: str


class WorkflowCancelled(WorkflowEvent, kw_only=True):
    """A workflow is cancelled. `reason` may be empty."""

    event: ClassVar[str] = "workflow.cancelled"
    signal: ClassVar[Signal] = signals.workflow_cancelled
    sample: ClassVar[dict[str, Any]] = {"name": "test", "reason": "A test"}
    reason: str

    @classmethod
    def from_signal(cls, *, workflow: Workflow, at: datetime, **_: Any) -> Self:
        return cls._build(workflow, workflow_id=workflow.pk, reason=workflow.error, timestamp=at)
