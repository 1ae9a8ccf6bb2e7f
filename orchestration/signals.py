"""The signals of changes, named in the past tense.

Every signal is sent inside the transaction of its change, after the row was saved. A receiver that raises rolls the
change back, and the writes of receivers are part of the transaction. The sender is the model class. `at` is an aware
`datetime`: the time of the change.
"""

from __future__ import annotations

from django.dispatch import Signal

# workflow: Workflow (`workflow.new_stages` are its stages, or None), at: datetime. Its stages are already stored.
workflow_created = Signal()

# workflow: Workflow, at: datetime.
workflow_started = Signal()

# workflow: Workflow (with its result), at: datetime.
workflow_completed = Signal()

# workflow: Workflow (with its error), at: datetime. Sent for the status `failed` and for `timeout`.
workflow_failed = Signal()

# workflow: Workflow (its error is the reason, which may be empty), at: datetime.
workflow_cancelled = Signal()

# workflow: Workflow (with `held_reason` and `held_needs`), at: datetime. No worker can take it now; it stays queued.
workflow_held = Signal()

# workflow: Workflow (in the pool in which it was held), at: datetime. It is held no longer: a stage that waited starts
# or is skipped, a worker may take one, or the run leaves the pool or is finished; then the signal of its end follows.
workflow_hold_ended = Signal()

# workflow: Workflow (in its new pool), from_pool_id: str | None, at: datetime.
workflow_moved = Signal()

# workflow: Workflow (running again), from_stage: str | None, failed_items_only: bool (of that stage),
# stages: Sequence[Stage] (those that run again, pending), at: datetime. `workflow_started` follows.
workflow_retried = Signal()

# workflow: Workflow (its row is already deleted; after pruning, its prompt, params, plan and result are None), at:
# datetime.
workflow_removed = Signal()

# workflow: Workflow, stages: Sequence[Stage] (those that are queued), at: datetime. If they are many, step: int and
# count: int (of the stages that waited in this step) instead of stages.
stages_queued = Signal()

# stage: Stage (`stage.workflow` is loaded and current), at: datetime. Another status than those with a signal. If it
# waits for sub-runs, also awaited_runs: Sequence[str], their ids.
stage_status_changed = Signal()

# stage: Stage (`stage.workflow` counts it), at: datetime. Not sent for the first stages of a workflow. If it is not
# pending, the signal of its status follows. If another stage has added it (`stage.added_by`), also moved_steps: int, by
# how many the steps from its own on move first.
stage_added = Signal()

# stage: Stage (its row is already deleted; `stage.workflow` no longer counts it), at: datetime. Its workflow remains.
stage_removed = Signal()

# stage: Stage (`stage.workflow` is loaded and current), at: datetime.
stage_started = Signal()

# stage: Stage (with its result; `stage.workflow` is loaded and current, and counts this stage), at: datetime.
stage_completed = Signal()

# stage: Stage (with its error; `stage.workflow` is loaded and current), at: datetime.
stage_failed = Signal()

# stage: Stage (`stage.workflow` is loaded and current), failed: FailedAttempt, at: datetime. An attempt failed and is
# retried: at `stage.retry_at` (database clock), or at once if that is None; then `stages_queued` follows.
stage_retrying = Signal()

# stage: Stage (`stage.workflow` is loaded and current), failed: FailedAttempt, at: datetime. The worker of the stage
# stops as planned, or cannot run the stage. It is queued again, and `stages_queued` follows.
stage_released = Signal()

# stage: Stage (waiting; `stage.workflow` is loaded), stage_map: StageMap, at: datetime. Its items run.
map_started = Signal()

# stage: Stage (`stage.workflow` is loaded), stage_map: StageMap (with the counts to publish), at: datetime.
map_progressed = Signal()

# stage: Stage (waiting; `stage.workflow` is loaded), wait: Wait (open), at: datetime.
wait_opened = Signal()

# stage: Stage (`stage.workflow` is loaded), wait: Wait (answered), at: datetime. What follows sends its own signal.
wait_answered = Signal()

# stage: Stage (`stage.workflow` is loaded), wait: Wait (expired), at: datetime. What follows sends its own signal.
wait_expired = Signal()

# stage: Stage (with its progress), at: datetime.
stage_progressed = Signal()

# stage: Stage, message: str, at: datetime. The stage sent a message to the subscribers of its workflow.
stage_logged = Signal()

# stage: Stage, step: str (its name), cached: bool (whether an earlier attempt completed it), steps_completed: int (by
# this attempt, with cached ones), at: datetime. A step inside the stage completed. Not sent for each step.
stage_step_completed = Signal()

# stage: Stage, name: str, content_type: str, at: datetime. The running attempt has opened a stream of chunks.
stream_opened = Signal()

# worker: Worker, at: datetime. If a known worker registers again, `worker_status_changed` is sent instead.
worker_added = Signal()

# worker: Worker, has_moved: bool (whether its pool is another one too), at: datetime.
worker_status_changed = Signal()

# worker: Worker (in its new pool), from_pool_id: str, at: datetime.
worker_moved = Signal()

# worker: Worker (with its stage), at: datetime. It runs another stage, and its status is the same.
worker_stage_changed = Signal()

# worker: Worker, at: datetime. It starts no further stage, and is offline when its stage ends.
worker_draining = Signal()

# worker: Worker (its row is already deleted), at: datetime.
worker_removed = Signal()

# pool: Pool, at: datetime.
pool_created = Signal()

# pool: Pool, at: datetime.
pool_drained = Signal()

# pool: Pool, at: datetime.
pool_reopened = Signal()

# pool: Pool, at: datetime.
pool_closed = Signal()

# pool: Pool (its row is already deleted), at: datetime.
pool_removed = Signal()

# pool: Pool, at: datetime (of the last change). Sent just before the commit, once for each pool whose counters moved;
# while a scheduler runs, at most once in `pool_status_interval_seconds` (see `orchestration.services.pool_metrics`).
pool_metrics_changed = Signal()
