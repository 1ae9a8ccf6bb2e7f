"""The data of every event. Written by `make clients` from the structs of the server."""

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
        reported_by: Who reported the change to the server; empty if the server made it itself.
    """

    timestamp: datetime
    test: bool = False
    truncated: bool = False
    reported_by: str = ""


class NewStage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A pending stage.

    Attributes:
        stage_name: Its name.
        step: Stages of one step run in parallel.
        last_attempt: Number of the attempt after which a failure is final.
    """

    stage_name: str
    step: int
    last_attempt: int


class PoolEvent(EventData, frozen=True, kw_only=True):
    """An event of one pool."""

    pool_id: str


class PoolCreated(PoolEvent, frozen=True, kw_only=True):
    """A pool is created."""


class PoolStatusChanged(PoolEvent, frozen=True, kw_only=True):
    """A pool's metrics change."""

    status: PoolMetrics


class PoolDrained(PoolEvent, frozen=True, kw_only=True):
    """A pool accepts no new work."""


class PoolReopened(PoolEvent, frozen=True, kw_only=True):
    """A drained pool accepts new work again."""


class PoolClosed(PoolEvent, frozen=True, kw_only=True):
    """A pool is closed permanently."""


class PoolRemoved(PoolEvent, frozen=True, kw_only=True):
    """A pool is removed."""


class WorkflowStagesQueued(EventData, frozen=True, kw_only=True):
    """Stages of a workflow are queued: those in `stages` or, if they are many, all that wait in the step `step`.

    Attributes:
        workflow_id: The workflow.
        stages: Their names; null if there are many.
        step: The step; null if `stages` has their names.
        count: Their number.
        item_of: Of items, the stage that they belong to, as in the events of one stage.
    """

    workflow_id: str
    stages: tuple[str, ...] | None = None
    step: int | None
    count: int
    item_of: str | None = None


class StageEvent(EventData, frozen=True, kw_only=True):
    """An event of one stage of a workflow. The counts that it has are those of the workflow.

    Attributes:
        workflow_id: The workflow.
        stage_name: The stage.
        item_of: Of an item, the stage that it belongs to: the event is in the channel of the items of that stage, and
            not in that of the workflow. Absent for other stages.
    """

    workflow_id: str
    stage_name: str
    item_of: str | None = None


class WorkflowStageStarted(StageEvent, frozen=True, kw_only=True):
    """A stage begins. `worker_id` is null where the worker is unknown. `attempt` counts its starts."""

    worker_id: str | None
    attempt: int


class WorkflowStageCompleted(StageEvent, frozen=True, kw_only=True):
    """A stage completes.

    Attributes:
        result: An object with `duration_ms` and the stage's own fields, such as `output`.
        duration_ms: How long it took, in milliseconds.
        stages_completed: How many stages of the workflow have completed.
    """

    result: Any = None
    duration_ms: int | None
    stages_completed: int


class WorkflowStageRetrying(StageEvent, frozen=True, kw_only=True):
    """An attempt at a stage fails and another one follows: at `retry_at`, or at once if that is null.

    Attributes:
        attempt: The number of the attempt that failed.
        reason: `failed`, `timed_out` or, if its worker was lost, `lost`.
        error: The error of that attempt.
        retry_at: When the next one starts; null if `workflow.stages_queued` follows.
        last_attempt: Number of the attempt after which a failure is final.
    """

    attempt: int
    reason: str
    error: str
    retry_at: datetime | None
    last_attempt: int


class WorkflowStageReleased(StageEvent, frozen=True, kw_only=True):
    """An attempt at a stage is given back, and the stage waits for another worker. The attempt has not failed.

    Attributes:
        attempt: The number of the attempt.
        reason: `worker_stopped`, or `not_runnable` if the worker lacks something that the stage needs.
        retry_at: When it is queued again; null if `workflow.stages_queued` follows.
        last_attempt: Number of the attempt after which a failure is final.
    """

    attempt: int
    reason: str
    retry_at: datetime | None
    last_attempt: int


class WorkflowStageFailed(StageEvent, frozen=True, kw_only=True):
    """A stage fails.

    Attributes:
        error: Why.
        duration_ms: How long its last attempt took, in milliseconds.
        last_attempt: Number of the attempt after which a failure is final.
    """

    error: str
    duration_ms: int | None
    last_attempt: int


class WorkflowStageStatusChanged(StageEvent, frozen=True, kw_only=True):
    """The status of a stage changes to one that no other event is about.

    Attributes:
        status: `skipped`, `waiting` for sub-runs or, by another application, `cancelled` or `pending`.
        stages_completed: How many stages of the workflow have completed.
        reason: Why it is skipped; empty if that is not known.
        waits_for_runs: The first sub-runs that it waits for. Absent unless it waits for some.
        waits_for_count: How many they are, with those that are not listed.
    """

    status: str
    stages_completed: int
    reason: str | None = None
    waits_for_runs: tuple[str, ...] = ()
    waits_for_count: int | None = None


class WorkflowStageAdded(StageEvent, frozen=True, kw_only=True):
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

    position: int
    step: int
    last_attempt: int
    total_stages: int
    stages_completed: int
    added_by: str | None = None
    moved_steps: int | None = None


class WorkflowStageRemoved(StageEvent, frozen=True, kw_only=True):
    """A stage is removed from a workflow, which has the counts `total_stages` and `stages_completed` now."""

    total_stages: int
    stages_completed: int


class WorkflowStageProgress(StageEvent, frozen=True, kw_only=True):
    """A running stage reports progress: `progress` is from 0 to 1, `message` may be empty."""

    progress: float
    message: str


class WorkflowStageLog(StageEvent, frozen=True, kw_only=True):
    """A running stage logs a message."""

    message: str


class WorkflowStepCompleted(StageEvent, frozen=True, kw_only=True):
    """A step inside a running stage completes. Steps that follow each other quickly share an event.

    Attributes:
        step_name: The name of the step, the last one if several share the event.
        cached: Whether its output was read, because an earlier attempt had completed it.
        steps_completed: How many steps the attempt has completed so far, with the cached ones.
    """

    step_name: str
    cached: bool
    steps_completed: int


class WorkflowStreamOpened(StageEvent, frozen=True, kw_only=True):
    """A running stage opens a stream of chunks. They are delivered by the channel of the stream, not by events.

    Attributes:
        stream_name: The name of the stream.
        attempt: The attempt that writes it.
        content_type: `text` or `bytes`.
    """

    stream_name: str
    attempt: int
    content_type: str


class MapEvent(StageEvent, frozen=True, kw_only=True):
    """An event of a stage that waits for its items.

    Attributes:
        total: How many items it has.
        completed: How many of them are completed.
        failed: How many have failed.
        running: How many run.
    """

    total: int
    completed: int
    failed: int
    running: int


class WorkflowMapStarted(MapEvent, frozen=True, kw_only=True):
    """A stage waits for its items, which run once for each value of a list, or run again."""


class WorkflowMapProgress(MapEvent, frozen=True, kw_only=True):
    """The counts of the items of a waiting stage have changed."""


class WorkflowWaiting(StageEvent, frozen=True, kw_only=True):
    """A stage waits, and holds no slot.

    Attributes:
        wait_id: The wait: a stage that begins again opens another one.
        wait_name: The name under which it is answered; that of the signal.
        kind: `ask` for an answer, `signal` for a signal, `sleep` for a time.
        title: What is asked; may be empty.
        schema: The JSON Schema of the answer; empty for any.
        recipients: Who should answer.
        expires_at: When the wait ends without an answer; null if it does not.
        last_attempt: Number of the attempt after which a failure is final.
    """

    wait_id: int
    wait_name: str
    kind: str
    title: str
    schema: Any
    recipients: tuple[str, ...]
    expires_at: datetime | None
    last_attempt: int


class WorkflowWaitAnswered(StageEvent, frozen=True, kw_only=True):
    """A wait is answered. The answer is the result of the stage, if the stage only waits.

    Attributes:
        wait_id: The wait.
        wait_name: Its name.
        by: Who answered; empty if that is unknown.
        resumes: Whether the stage is pending now, to begin again.
    """

    wait_id: int
    wait_name: str
    by: str
    resumes: bool


class WorkflowWaitExpired(StageEvent, frozen=True, kw_only=True):
    """The time of a wait is over.

    Attributes:
        wait_id: The wait.
        wait_name: Its name.
        resumes: Whether the stage is pending now, to begin again.
    """

    wait_id: int
    wait_name: str
    resumes: bool


class WorkerEvent(EventData, frozen=True, kw_only=True):
    """An event of one worker."""

    worker_id: str
    pool_id: str


class WorkerStatusChanged(WorkerEvent, frozen=True, kw_only=True):
    """A worker's status changes to `idle`, `busy`, `error` or `offline`.

    Attributes:
        status: The new status.
        pool_id: Its pool.
        release: The release of its code, which may be another one after it was offline. May be empty.
        draining: Whether it starts no further stage.
        workflow_id: The workflow of the stage that it runs; null if it runs none, or if that is unknown.
        stage_name: The stage that it runs.
    """

    status: str
    release: str
    draining: bool
    workflow_id: str | None
    stage_name: str | None


class WorkerAdded(WorkerStatusChanged, frozen=True, kw_only=True):
    """A worker is registered. `status` is its initial status."""


class WorkerStageChanged(WorkerEvent, frozen=True, kw_only=True):
    """A worker runs another stage, and its status is the same: it continued with the next stage at once."""

    workflow_id: str | None
    stage_name: str | None


class WorkerMoved(WorkerEvent, frozen=True, kw_only=True):
    """A worker joins the pool `pool_id` after it was offline in the pool `from_pool_id`."""

    from_pool_id: str


class WorkerDraining(WorkerEvent, frozen=True, kw_only=True):
    """A worker starts no further stage. It is offline when its stage ends."""


class WorkerRemoved(WorkerEvent, frozen=True, kw_only=True):
    """A worker is removed."""


class WorkflowEvent(EventData, frozen=True, kw_only=True):
    """An event of one workflow. `name` is what it runs, such as the name of the definition; it may be empty."""

    workflow_id: str
    name: str


class WorkflowCreated(WorkflowEvent, frozen=True, kw_only=True):
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

    adapter: str
    prompt: str
    total_stages: int
    pool_id: str | None
    params: dict[str, Any] = {}
    deadline_at: datetime | None
    stages: tuple[NewStage, ...] = ()
    parent_id: str | None = None
    root_id: str | None = None


class WorkflowStarted(WorkflowEvent, frozen=True, kw_only=True):
    """A workflow's execution begins."""

    adapter: str
    prompt: str


class WorkflowMoved(WorkflowEvent, frozen=True, kw_only=True):
    """A workflow moves from the pool `from_pool_id` to the pool `pool_id`. Either may be null."""

    pool_id: str | None
    from_pool_id: str | None


class WorkflowRetried(WorkflowEvent, frozen=True, kw_only=True):
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

    from_stage: str | None
    stages: tuple[NewStage, ...] = ()
    adapter: str
    prompt: str
    pool_id: str | None
    total_stages: int
    stages_completed: int
    created_at: datetime
    started_at: datetime | None
    deadline_at: datetime | None
    failed_items_only: bool | None = None
    parent_id: str | None = None
    root_id: str | None = None


class WorkflowRemoved(WorkflowEvent, frozen=True, kw_only=True):
    """A workflow is removed, with its stages."""


class WorkflowHeld(WorkflowEvent, frozen=True, kw_only=True):
    """No worker of its pool can take a run now. It stays queued until `workflow.hold_ended`.

    Attributes:
        reason: `no_worker` if its pool has no worker, `no_worker_with` if none of them has what the run needs.
        pool_id: The pool.
        needs: What the workers lack: the code of a stage, such as `shop.workflows:load`, or a release. Empty for
            `no_worker`.
    """

    reason: str
    pool_id: str
    needs: str


class WorkflowHoldEnded(WorkflowEvent, frozen=True, kw_only=True):
    """A run is no longer held: a worker may take it now, or it has left the pool `pool_id`, or it is finished."""

    pool_id: str


class WorkflowCompleted(WorkflowEvent, frozen=True, kw_only=True):
    """A workflow completes successfully. `result` is an object with `total_duration_ms` and often `final_output`."""

    result: Any = None


class WorkflowFailed(WorkflowEvent, frozen=True, kw_only=True):
    """A workflow fails or times out. `status`, an addition to the API reference, is `failed` or `timeout`."""

    error: str
    status: str


class WorkflowCancelled(WorkflowEvent, frozen=True, kw_only=True):
    """A workflow is cancelled. `reason` may be empty."""

    reason: str


EVENT_TYPES: Final[dict[str, type[EventData]]] = {
    "pool.created": PoolCreated,
    "pool.status_changed": PoolStatusChanged,
    "pool.drained": PoolDrained,
    "pool.reopened": PoolReopened,
    "pool.closed": PoolClosed,
    "pool.removed": PoolRemoved,
    "workflow.stages_queued": WorkflowStagesQueued,
    "workflow.stage_started": WorkflowStageStarted,
    "workflow.stage_completed": WorkflowStageCompleted,
    "workflow.stage_retrying": WorkflowStageRetrying,
    "workflow.stage_released": WorkflowStageReleased,
    "workflow.stage_failed": WorkflowStageFailed,
    "workflow.stage_status_changed": WorkflowStageStatusChanged,
    "workflow.stage_added": WorkflowStageAdded,
    "workflow.stage_removed": WorkflowStageRemoved,
    "workflow.stage_progress": WorkflowStageProgress,
    "workflow.stage_log": WorkflowStageLog,
    "workflow.step_completed": WorkflowStepCompleted,
    "workflow.stream_opened": WorkflowStreamOpened,
    "workflow.map_started": WorkflowMapStarted,
    "workflow.map_progress": WorkflowMapProgress,
    "workflow.waiting": WorkflowWaiting,
    "workflow.wait_answered": WorkflowWaitAnswered,
    "workflow.wait_expired": WorkflowWaitExpired,
    "worker.status_changed": WorkerStatusChanged,
    "worker.added": WorkerAdded,
    "worker.stage_changed": WorkerStageChanged,
    "worker.moved": WorkerMoved,
    "worker.draining": WorkerDraining,
    "worker.removed": WorkerRemoved,
    "workflow.created": WorkflowCreated,
    "workflow.started": WorkflowStarted,
    "workflow.moved": WorkflowMoved,
    "workflow.retried": WorkflowRetried,
    "workflow.removed": WorkflowRemoved,
    "workflow.held": WorkflowHeld,
    "workflow.hold_ended": WorkflowHoldEnded,
    "workflow.completed": WorkflowCompleted,
    "workflow.failed": WorkflowFailed,
    "workflow.cancelled": WorkflowCancelled,
}
"""The data of each event, by its name."""
