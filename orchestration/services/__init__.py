"""The only code that changes the stored state.

Each change is one transaction. Most functions take the time of the change as `at` (default: now), and return the row as
stored or whether it changed. A rejected change raises a `ServiceError` and writes nothing. Functions that only record
heartbeats and due times use the clock of the database instead of `at`.
"""

# These imports are the only list of the public names.
# mypy: implicit-reexport
# ruff: noqa: F401

from __future__ import annotations

from orchestration.services.added_steps import ItemAddsSteps, TooManyStages
from orchestration.services.attempt_ends import (
    AttemptOutcome,
    complete_attempt,
    fail_attempt,
    release_attempt,
    skip_attempt,
    start_map,
    wait_for_sub_runs,
)
from orchestration.services.attempts import Claim, Slot, StaleWorker, claim_stage
from orchestration.services.capabilities import FindMissing, Requirement, StageNotRunnable, nothing_missing
from orchestration.services.dispatch_due import (
    continue_stalled_run,
    delay_redispatch,
    dispatch_refused,
    missing_messages,
    queue_retry,
)
from orchestration.services.dispatch_window import refill_window
from orchestration.services.errors import ServiceError
from orchestration.services.external_stages import add_message, add_stage, requeue_stage
from orchestration.services.holds import end_outdated_hold, hold_unclaimed
from orchestration.services.map_progress import publish_map_progress
from orchestration.services.pool_metrics import publish_pool_metrics, record_scheduler_heartbeat
from orchestration.services.pool_moves import reassign_workflow, reassign_workflows
from orchestration.services.pool_samples import prune_pool_samples, sample_pools
from orchestration.services.pools import (
    PoolInUse,
    PoolNotAccepting,
    PoolNotEmpty,
    UnknownPool,
    close_pool,
    create_pool,
    drain_pool,
    remove_pool,
    reopen_pool,
)
from orchestration.services.progress import report_message, report_progress
from orchestration.services.row_locks import (
    AlreadyExists,
    AttemptEnded,
    NotFound,
    PoolNotFound,
    StageNotFound,
    WorkerNotFound,
    WorkflowNotFound,
)
from orchestration.services.run_retries import NoFailedItems, retry_run
from orchestration.services.runs import start_run
from orchestration.services.secrets import SecretsUnreadable, unsealed
from orchestration.services.stages import (
    EngineRun,
    WorkflowNotRunning,
    complete_stage,
    fail_stage,
    queue_stage,
    skip_stage,
    start_stage,
)
from orchestration.services.start_keys import KeyConflict
from orchestration.services.step_records import (
    StepConflict,
    StepReport,
    StoredStep,
    TooManySteps,
    find_step,
    report_step,
    store_step,
)
from orchestration.services.streams import WrittenStream, open_stream
from orchestration.services.sub_run_links import ParentAttempt, TooDeep
from orchestration.services.sub_run_waits import NotASubRun, wake_parent
from orchestration.services.sub_runs import cancel_sub_run, end_cancellation, start_sub_run
from orchestration.services.transitions import IllegalTransition
from orchestration.services.validation import InvalidArgument, InvalidIdentifier
from orchestration.services.wait_answers import answer_wait, expire_wait, send_signal
from orchestration.services.wait_errors import (
    AlreadyAnswered,
    InvalidAnswer,
    NameAwaited,
    TooManyEarlyAnswers,
    WaitClosed,
    WaitExpired,
    WaitNotFound,
    WaitReplaced,
)
from orchestration.services.wait_starts import EndedWait, find_ended_wait, open_wait
from orchestration.services.worker_lifecycle import (
    NoFreeWorkerId,
    crash_worker,
    expire_lease,
    expire_worker,
    join_pool,
    leave_pool,
    record_heartbeats,
)
from orchestration.services.workers import (
    EngineWorker,
    NotDrainable,
    WorkerInOtherPool,
    change_worker_status,
    drain_worker,
    register_worker,
    remove_worker,
)
from orchestration.services.workflows import (
    cancel_workflow,
    complete_workflow,
    create_workflow,
    fail_workflow,
    start_workflow,
    time_out_workflow,
)
