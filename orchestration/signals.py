"""What happened, in the past tense.

Every signal is sent inside the transaction of the change it announces, after the row was saved: a receiver that raises
undoes the change, and what receivers write is undone with the change. The sender is the model class. `at` is an aware
`datetime`: the moment of the change.
"""

from __future__ import annotations

from django.dispatch import Signal

# workflow: Workflow, at: datetime. Its stages are stored already.
workflow_created = Signal()

# workflow: Workflow, at: datetime.
workflow_started = Signal()

# workflow: Workflow (with its result), at: datetime.
workflow_completed = Signal()

# workflow: Workflow (with its error), at: datetime. Sent for the status `failed` and for `timeout`.
workflow_failed = Signal()

# workflow: Workflow (the reason, if one was given, is its error), at: datetime.
workflow_cancelled = Signal()

# stage: Stage (`stage.workflow` is loaded and current), at: datetime.
stage_started = Signal()

# stage: Stage (with its result; `stage.workflow` is loaded and current, this stage counted), at: datetime.
stage_completed = Signal()

# stage: Stage (with its error; `stage.workflow` is loaded and current), at: datetime.
stage_failed = Signal()

# stage: Stage (`stage.workflow` is loaded and current), failed: FailedAttempt, at: datetime. An attempt ended badly and
# another follows: at `stage.retry_at` by the clock of the database, or at once if that is None.
stage_retrying = Signal()

# stage: Stage (with its progress), at: datetime.
stage_progressed = Signal()

# stage: Stage, message: str, at: datetime. The stage says something to whoever follows its workflow.
stage_logged = Signal()

# worker: Worker, at: datetime. A worker that registers a second time is announced by `worker_status_changed`.
worker_added = Signal()

# worker: Worker, at: datetime.
worker_status_changed = Signal()

# worker: Worker (its row is gone already), at: datetime.
worker_removed = Signal()

# pool: Pool, at: datetime.
pool_created = Signal()

# pool: Pool, at: datetime.
pool_drained = Signal()

# pool: Pool, at: datetime.
pool_reopened = Signal()

# pool: Pool, at: datetime.
pool_closed = Signal()

# pool: Pool, at: datetime (of the last change). Sent just before the commit, once for each pool whose counters moved;
# while a scheduler runs, at most ten times a second (see `orchestration.services.pool_metrics`).
pool_metrics_changed = Signal()
