"""Events of a workflow as a whole."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Self

from django.dispatch import Signal

from orchestration import signals
from orchestration.models import Workflow
from realtime.events.types.base import EventData


class WorkflowEvent(EventData, kw_only=True):
    """An event of one workflow."""

    rooms_from: ClassVar[tuple[str, ...]] = ("workflow",)
    workflow_id: str

    @classmethod
    def from_signal(cls, *, workflow: Workflow, at: datetime, **_: Any) -> Self:
        return cls._build(workflow, workflow_id=workflow.pk, timestamp=at)


class WorkflowCreated(WorkflowEvent, kw_only=True):
    """A workflow is stored and waits to start."""

    name: ClassVar[str] = "workflow.created"
    signal: ClassVar[Signal] = signals.workflow_created
    sample: ClassVar[dict[str, Any]] = {"adapter": "python", "prompt": "A test", "total_stages": 1}
    adapter: str
    prompt: str
    total_stages: int


class WorkflowStarted(WorkflowEvent, kw_only=True):
    """A workflow's execution begins."""

    name: ClassVar[str] = "workflow.started"
    signal: ClassVar[Signal] = signals.workflow_started
    sample: ClassVar[dict[str, Any]] = {"adapter": "python", "prompt": "A test"}
    adapter: str
    prompt: str


class WorkflowHeld(WorkflowEvent, kw_only=True):
    """No worker of its pool can take a run now. It stays queued until `workflow.hold_ended`.

    Attributes:
        reason: `no_worker` if its pool has no worker, `no_worker_with` if none of them has what the run needs.
        pool_id: The pool.
        needs: What the workers lack: the code of a stage, such as `shop.workflows:load`, or a release. Empty for
            `no_worker`.
    """

    name: ClassVar[str] = "workflow.held"
    rooms_from: ClassVar[tuple[str, ...]] = ("workflow", "pool")
    signal: ClassVar[Signal] = signals.workflow_held
    sample: ClassVar[dict[str, Any]] = {"reason": "no_worker", "pool_id": "pool_local", "needs": ""}
    reason: str
    pool_id: str
    needs: str

    @classmethod
    def from_signal(cls, *, workflow: Workflow, at: datetime, **_: Any) -> Self:
        why = {"reason": workflow.held_reason, "needs": workflow.held_needs}
        return cls._build(workflow, workflow_id=workflow.pk, **why, timestamp=at)


class WorkflowHoldEnded(WorkflowEvent, kw_only=True):
    """A run is no longer held: a worker may take it now, or it has left the pool `pool_id`, or it is finished."""

    name: ClassVar[str] = "workflow.hold_ended"
    rooms_from: ClassVar[tuple[str, ...]] = ("workflow", "pool")
    signal: ClassVar[Signal] = signals.workflow_hold_ended
    sample: ClassVar[dict[str, Any]] = {"pool_id": "pool_local"}
    pool_id: str


class WorkflowCompleted(WorkflowEvent, kw_only=True):
    """A workflow completes successfully. `result` is an object with `total_duration_ms` and often `final_output`."""

    name: ClassVar[str] = "workflow.completed"
    signal: ClassVar[Signal] = signals.workflow_completed
    sample: ClassVar[dict[str, Any]] = {"result": {"final_output": "A test", "total_duration_ms": 0}}
    result: Any


class WorkflowFailed(WorkflowEvent, kw_only=True):
    """A workflow fails or times out. `status`, an addition to the API reference, is `failed` or `timeout`."""

    name: ClassVar[str] = "workflow.failed"
    signal: ClassVar[Signal] = signals.workflow_failed
    sample: ClassVar[dict[str, Any]] = {"error": "A test", "status": "failed"}
    error: str
    status: str


class WorkflowCancelled(WorkflowEvent, kw_only=True):
    """A workflow is cancelled. `reason` may be empty."""

    name: ClassVar[str] = "workflow.cancelled"
    signal: ClassVar[Signal] = signals.workflow_cancelled
    sample: ClassVar[dict[str, Any]] = {"reason": "A test"}
    reason: str

    @classmethod
    def from_signal(cls, *, workflow: Workflow, at: datetime, **_: Any) -> Self:
        return cls._build(workflow, workflow_id=workflow.pk, reason=workflow.error, timestamp=at)
