"""Every event this server announces: its name, the shape of its data and the channels it belongs to.

The first six are the API reference's; the others are additions in its style. A name maps to one `EventData` class.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

import msgspec

from orchestration.models import Pool
from realtime.protocol.channels import channel_of


class EventData(msgspec.Struct, kw_only=True):
    """The data of one event.

    Attributes:
        name: What the event is called on the wire.
        rooms_from: The channels it belongs to besides `global`, each a resource type whose id is the field
            `<type>_id`. The first is the resource the event is about.
        sample: What `emit_test_event` fills in for a field it was not given.
    """

    name: ClassVar[str]
    rooms_from: ClassVar[tuple[str, ...]]
    sample: ClassVar[dict[str, Any]] = {}

    timestamp: datetime

    def rooms(self) -> tuple[str, ...]:
        """The channels this one belongs to besides `global`."""
        return tuple(channel_of(kind, getattr(self, f"{kind}_id")) for kind in self.rooms_from)


class WorkflowEvent(EventData, kw_only=True):
    """Something that happened to one workflow."""

    rooms_from: ClassVar[tuple[str, ...]] = ("workflow",)
    workflow_id: str


class WorkflowStarted(WorkflowEvent, kw_only=True):
    """A workflow's execution begins."""

    name: ClassVar[str] = "workflow.started"
    sample: ClassVar[dict[str, Any]] = {"adapter": "python", "prompt": "A test"}
    adapter: str
    prompt: str


class WorkflowStageCompleted(WorkflowEvent, kw_only=True):
    """A stage completes. `result` is an object with `duration_ms` and whatever the stage returned (`output`)."""

    name: ClassVar[str] = "workflow.stage_completed"
    sample: ClassVar[dict[str, Any]] = {"stage_name": "test", "result": {"output": "Success", "duration_ms": 0}}
    stage_name: str
    result: Any


class WorkflowCompleted(WorkflowEvent, kw_only=True):
    """A workflow completes successfully. `result` is an object with `total_duration_ms` (`final_output`)."""

    name: ClassVar[str] = "workflow.completed"
    sample: ClassVar[dict[str, Any]] = {"result": {"final_output": "A test", "total_duration_ms": 0}}
    result: Any


class WorkflowFailed(WorkflowEvent, kw_only=True):
    """A workflow fails or times out; `status`, an addition, tells which: `failed` or `timeout`."""

    name: ClassVar[str] = "workflow.failed"
    sample: ClassVar[dict[str, Any]] = {"error": "A test", "status": "failed"}
    error: str
    status: str


class WorkerStatusChanged(EventData, kw_only=True):
    """A worker's status changes to `idle`, `busy`, `error` or `offline`."""

    name: ClassVar[str] = "worker.status_changed"
    rooms_from: ClassVar[tuple[str, ...]] = ("worker", "pool")
    sample: ClassVar[dict[str, Any]] = {"status": "idle", "pool_id": "pool_local"}
    worker_id: str
    status: str
    pool_id: str


class PoolMetrics(msgspec.Struct, kw_only=True):
    """How a pool stands. The first four are the reference's.

    Attributes:
        active_workers: Workers busy now.
        idle_workers: Workers idle now.
        queue_size: Stages queued for the pool.
        tasks_completed: Stages completed since the pool was made.
        tasks_failed: Stages failed since the pool was made.
        tasks_running: Stages of the pool running now.
        worker_count: Workers registered, whatever their status.
        error_workers: Workers in error now.
    """

    active_workers: int
    idle_workers: int
    queue_size: int
    tasks_completed: int
    tasks_failed: int = 0
    tasks_running: int = 0
    worker_count: int = 0
    error_workers: int = 0


def pool_metrics(pool: Pool) -> PoolMetrics:
    """The metrics of a pool, as `pool.status_changed` tells them."""
    return PoolMetrics(
        active_workers=pool.active_workers,
        idle_workers=pool.idle_workers,
        queue_size=pool.queue_size,
        tasks_completed=pool.tasks_completed,
        tasks_failed=pool.tasks_failed,
        tasks_running=pool.tasks_running,
        worker_count=pool.worker_count,
        error_workers=pool.error_workers,
    )


class PoolEvent(EventData, kw_only=True):
    """Something that happened to one pool."""

    rooms_from: ClassVar[tuple[str, ...]] = ("pool",)
    pool_id: str


class PoolStatusChanged(PoolEvent, kw_only=True):
    """A pool's metrics change."""

    name: ClassVar[str] = "pool.status_changed"
    sample: ClassVar[dict[str, Any]] = {
        "status": {"active_workers": 0, "idle_workers": 0, "queue_size": 0, "tasks_completed": 0}
    }
    status: PoolMetrics


class WorkflowCreated(WorkflowEvent, kw_only=True):
    """A workflow is stored and waits to start."""

    name: ClassVar[str] = "workflow.created"
    sample: ClassVar[dict[str, Any]] = {"adapter": "python", "prompt": "A test", "total_stages": 1}
    adapter: str
    prompt: str
    total_stages: int


class WorkflowCancelled(WorkflowEvent, kw_only=True):
    """A workflow is cancelled. `reason` may be empty."""

    name: ClassVar[str] = "workflow.cancelled"
    sample: ClassVar[dict[str, Any]] = {"reason": "A test"}
    reason: str


class WorkflowStageStarted(WorkflowEvent, kw_only=True):
    """A stage begins; `worker_id` is null where nobody said which worker runs it."""

    name: ClassVar[str] = "workflow.stage_started"
    sample: ClassVar[dict[str, Any]] = {"stage_name": "test", "worker_id": None}
    stage_name: str
    worker_id: str | None


class WorkflowStageFailed(WorkflowEvent, kw_only=True):
    """A stage fails."""

    name: ClassVar[str] = "workflow.stage_failed"
    sample: ClassVar[dict[str, Any]] = {"stage_name": "test", "error": "A test"}
    stage_name: str
    error: str


class WorkflowStageRetrying(WorkflowEvent, kw_only=True):
    """An attempt at a stage ended badly and another one follows: at `retry_at`, or at once where that is null.

    Attributes:
        attempt: The number of the attempt that ended.
        reason: `failed`, `timed_out` or, where its worker is gone, `lost`.
    """

    name: ClassVar[str] = "workflow.stage_retrying"
    sample: ClassVar[dict[str, Any]] = {
        "stage_name": "test",
        "attempt": 1,
        "reason": "failed",
        "error": "A test",
        "retry_at": None,
    }
    stage_name: str
    attempt: int
    reason: str
    error: str
    retry_at: datetime | None


class WorkflowStageProgress(WorkflowEvent, kw_only=True):
    """A running stage tells how far it is: `progress` is from 0 to 1, `message` may be empty."""

    name: ClassVar[str] = "workflow.stage_progress"
    sample: ClassVar[dict[str, Any]] = {"stage_name": "test", "progress": 0.5, "message": "A test"}
    stage_name: str
    progress: float
    message: str


class WorkflowStageLog(WorkflowEvent, kw_only=True):
    """A running stage has something to say."""

    name: ClassVar[str] = "workflow.stage_log"
    sample: ClassVar[dict[str, Any]] = {"stage_name": "test", "message": "A test"}
    stage_name: str
    message: str


class WorkerAdded(WorkerStatusChanged, kw_only=True):
    """A worker is registered; `status` is its first."""

    name: ClassVar[str] = "worker.added"


class WorkerRemoved(EventData, kw_only=True):
    """A worker is no longer known."""

    name: ClassVar[str] = "worker.removed"
    rooms_from: ClassVar[tuple[str, ...]] = ("worker", "pool")
    sample: ClassVar[dict[str, Any]] = {"pool_id": "pool_local"}
    worker_id: str
    pool_id: str


class PoolCreated(PoolEvent, kw_only=True):
    """A pool is made."""

    name: ClassVar[str] = "pool.created"


class PoolDrained(PoolEvent, kw_only=True):
    """A pool takes no new work."""

    name: ClassVar[str] = "pool.drained"


class PoolReopened(PoolEvent, kw_only=True):
    """A pool that was drained takes new work again."""

    name: ClassVar[str] = "pool.reopened"


class PoolClosed(PoolEvent, kw_only=True):
    """A pool is closed for good."""

    name: ClassVar[str] = "pool.closed"


EVENT_TYPES: dict[str, type[EventData]] = {
    event.name: event
    for event in (
        WorkflowStarted,
        WorkflowStageCompleted,
        WorkflowCompleted,
        WorkflowFailed,
        WorkerStatusChanged,
        PoolStatusChanged,
        WorkflowCreated,
        WorkflowCancelled,
        WorkflowStageStarted,
        WorkflowStageFailed,
        WorkflowStageRetrying,
        WorkflowStageProgress,
        WorkflowStageLog,
        WorkerAdded,
        WorkerRemoved,
        PoolCreated,
        PoolDrained,
        PoolReopened,
        PoolClosed,
    )
}
