"""The data of the events that change a state. Provisional: to be generated from the structs of the server."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import msgspec

from mahavishnu_client.state import PoolMetrics


class EventData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The data of one event.

    Attributes:
        timestamp: The moment of the change.
        test: Whether it was sent to try out a client, and nothing has changed.
        truncated: Whether long values were cut.
    """

    timestamp: datetime
    test: bool = False
    truncated: bool = False


class WorkflowEvent(EventData, frozen=True, kw_only=True):
    """An event of one workflow."""

    workflow_id: str


class StageEvent(WorkflowEvent, frozen=True, kw_only=True):
    """An event of one stage."""

    stage_name: str


class CreatedStage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A stage of a new workflow."""

    stage_name: str
    step: int
    last_attempt: int


class RetriedStage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A stage that a retried run runs again."""

    stage_name: str
    last_attempt: int


class WorkflowCreated(WorkflowEvent, frozen=True, kw_only=True):
    """A workflow is created."""

    name: str
    adapter: str
    prompt: str = ""
    total_stages: int
    pool_id: str | None
    deadline_at: datetime | None
    # A channel `summary` has neither.
    params: dict[str, Any] = {}
    stages: tuple[CreatedStage, ...] = ()


class WorkflowStarted(WorkflowEvent, frozen=True, kw_only=True):
    """A workflow starts."""

    name: str
    adapter: str
    prompt: str


class WorkflowStagesQueued(WorkflowEvent, frozen=True, kw_only=True):
    """Stages are queued: those named, or all pending ones of a step."""

    stages: tuple[str, ...] | None = None
    step: int | None
    count: int


class WorkflowStageStarted(StageEvent, frozen=True, kw_only=True):
    """A stage starts."""

    worker_id: str | None
    attempt: int


class WorkflowStageCompleted(StageEvent, frozen=True, kw_only=True):
    """A stage completes."""

    result: Any = None
    duration_ms: int | None
    stages_completed: int


class WorkflowStageFailed(StageEvent, frozen=True, kw_only=True):
    """A stage fails."""

    error: str
    duration_ms: int | None
    last_attempt: int


class WorkflowStageRetrying(StageEvent, frozen=True, kw_only=True):
    """An attempt failed and another one follows."""

    attempt: int
    reason: str
    error: str
    retry_at: datetime | None
    last_attempt: int


class WorkflowStageReleased(StageEvent, frozen=True, kw_only=True):
    """An attempt was given back."""

    attempt: int
    reason: str
    retry_at: datetime | None
    last_attempt: int


class WorkflowStageProgress(StageEvent, frozen=True, kw_only=True):
    """A running stage reports progress."""

    progress: float
    message: str


class WorkflowStageLog(StageEvent, frozen=True, kw_only=True):
    """A running stage logs a message."""

    message: str


class WorkflowStageStatusChanged(StageEvent, frozen=True, kw_only=True):
    """A stage is skipped, or another application set its status."""

    status: str
    stages_completed: int


class WorkflowStageAdded(StageEvent, frozen=True, kw_only=True):
    """A stage is added."""

    position: int
    step: int
    status: str
    last_attempt: int
    total_stages: int
    stages_completed: int


class WorkflowStageRemoved(StageEvent, frozen=True, kw_only=True):
    """A stage is removed."""

    total_stages: int
    stages_completed: int


class WorkflowHeld(WorkflowEvent, frozen=True, kw_only=True):
    """No worker can take a run now."""

    name: str
    reason: str
    pool_id: str | None
    needs: str


class WorkflowHoldEnded(WorkflowEvent, frozen=True, kw_only=True):
    """A run is no longer held."""

    name: str
    pool_id: str | None


class WorkflowMoved(WorkflowEvent, frozen=True, kw_only=True):
    """A workflow moves to another pool."""

    name: str
    pool_id: str | None
    from_pool_id: str | None


class WorkflowCompleted(WorkflowEvent, frozen=True, kw_only=True):
    """A workflow completes."""

    name: str
    result: Any = None


class WorkflowFailed(WorkflowEvent, frozen=True, kw_only=True):
    """A workflow fails or times out."""

    name: str
    error: str
    status: str


class WorkflowCancelled(WorkflowEvent, frozen=True, kw_only=True):
    """A workflow is cancelled."""

    name: str
    reason: str


class WorkflowRetried(WorkflowEvent, frozen=True, kw_only=True):
    """A finished run runs again."""

    name: str
    adapter: str
    prompt: str
    from_stage: str | None
    stages: tuple[RetriedStage, ...] = ()
    stages_completed: int
    total_stages: int
    pool_id: str | None
    created_at: datetime
    started_at: datetime | None
    deadline_at: datetime | None


class WorkflowRemoved(WorkflowEvent, frozen=True, kw_only=True):
    """A finished run is deleted."""

    name: str


class WorkerEvent(EventData, frozen=True, kw_only=True):
    """An event of one worker."""

    worker_id: str
    pool_id: str


class WorkerStatusChanged(WorkerEvent, frozen=True, kw_only=True):
    """A worker's status changes."""

    status: str
    release: str
    draining: bool
    workflow_id: str | None
    stage_name: str | None


class WorkerAdded(WorkerStatusChanged, frozen=True, kw_only=True):
    """A worker is registered."""


class WorkerStageChanged(WorkerEvent, frozen=True, kw_only=True):
    """A busy worker continues with another stage."""

    workflow_id: str | None
    stage_name: str | None


class WorkerDraining(WorkerEvent, frozen=True, kw_only=True):
    """A worker starts no further stage."""


class WorkerRemoved(WorkerEvent, frozen=True, kw_only=True):
    """A worker is removed."""


class WorkerMoved(WorkerEvent, frozen=True, kw_only=True):
    """A worker moves to another pool."""

    from_pool_id: str


class PoolEvent(EventData, frozen=True, kw_only=True):
    """An event of one pool."""

    pool_id: str


class PoolCreated(PoolEvent, frozen=True, kw_only=True):
    """A pool is created."""


class PoolStatusChanged(PoolEvent, frozen=True, kw_only=True):
    """A pool's metrics change."""

    status: PoolMetrics


class PoolDrained(PoolEvent, frozen=True, kw_only=True):
    """A pool accepts no new workflows."""


class PoolReopened(PoolEvent, frozen=True, kw_only=True):
    """A drained pool accepts new workflows again."""


class PoolClosed(PoolEvent, frozen=True, kw_only=True):
    """A pool is closed."""


class PoolRemoved(PoolEvent, frozen=True, kw_only=True):
    """A pool is deleted."""


EVENT_TYPES: Final[dict[str, type[EventData]]] = {
    "workflow.created": WorkflowCreated,
    "workflow.started": WorkflowStarted,
    "workflow.stages_queued": WorkflowStagesQueued,
    "workflow.stage_started": WorkflowStageStarted,
    "workflow.stage_completed": WorkflowStageCompleted,
    "workflow.stage_failed": WorkflowStageFailed,
    "workflow.stage_retrying": WorkflowStageRetrying,
    "workflow.stage_released": WorkflowStageReleased,
    "workflow.stage_progress": WorkflowStageProgress,
    "workflow.stage_log": WorkflowStageLog,
    "workflow.stage_status_changed": WorkflowStageStatusChanged,
    "workflow.stage_added": WorkflowStageAdded,
    "workflow.stage_removed": WorkflowStageRemoved,
    "workflow.held": WorkflowHeld,
    "workflow.hold_ended": WorkflowHoldEnded,
    "workflow.moved": WorkflowMoved,
    "workflow.completed": WorkflowCompleted,
    "workflow.failed": WorkflowFailed,
    "workflow.cancelled": WorkflowCancelled,
    "workflow.retried": WorkflowRetried,
    "workflow.removed": WorkflowRemoved,
    "worker.added": WorkerAdded,
    "worker.status_changed": WorkerStatusChanged,
    "worker.stage_changed": WorkerStageChanged,
    "worker.draining": WorkerDraining,
    "worker.removed": WorkerRemoved,
    "worker.moved": WorkerMoved,
    "pool.created": PoolCreated,
    "pool.status_changed": PoolStatusChanged,
    "pool.drained": PoolDrained,
    "pool.reopened": PoolReopened,
    "pool.closed": PoolClosed,
    "pool.removed": PoolRemoved,
}
