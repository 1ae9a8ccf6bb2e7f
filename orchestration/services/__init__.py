"""The only writers of what is true.

Each function is one transaction, takes the moment of the change as `at` (default: now) and returns the row as it was
stored. Whatever cannot be done raises a `Refusal`, and then nothing was written.
"""

from __future__ import annotations

from orchestration.services.attempts import (
    Claim,
    Ended,
    Slot,
    WorkerNotMine,
    claim_stage,
    complete_attempt,
    fail_attempt,
)
from orchestration.services.errors import Refusal
from orchestration.services.locking import (
    AlreadyExists,
    NotFound,
    PoolNotFound,
    StageNotFound,
    WorkerNotFound,
    WorkflowNotFound,
)
from orchestration.services.pool_metrics import pools_to_tell, sign_of_scheduler, tell_pool
from orchestration.services.pools import (
    PoolNotAccepting,
    PoolNotEmpty,
    close_pool,
    create_pool,
    drain_pool,
    reopen_pool,
)
from orchestration.services.progress import report_message, report_progress
from orchestration.services.reassignment import move_work, move_workflow
from orchestration.services.redispatch import (
    doubt_broker,
    missing_messages,
    postpone_dispatch,
    queue_retry,
    trust_broker,
)
from orchestration.services.runs import retry_run, start_run
from orchestration.services.stages import (
    WorkflowNotRunning,
    complete_stage,
    fail_stage,
    queue_stage,
    skip_stage,
    start_stage,
)
from orchestration.services.transitions import IllegalTransition
from orchestration.services.validation import InvalidArgument, InvalidIdentifier
from orchestration.services.worker_lifecycle import (
    beat,
    crash_worker,
    give_up_attempt,
    give_up_worker,
    join_pool,
    leave_pool,
)
from orchestration.services.workers import (
    WorkerInOtherPool,
    change_worker_status,
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

__all__ = [
    "AlreadyExists",
    "Claim",
    "Ended",
    "IllegalTransition",
    "InvalidArgument",
    "InvalidIdentifier",
    "NotFound",
    "PoolNotAccepting",
    "PoolNotEmpty",
    "PoolNotFound",
    "Refusal",
    "Slot",
    "StageNotFound",
    "WorkerInOtherPool",
    "WorkerNotFound",
    "WorkerNotMine",
    "WorkflowNotFound",
    "WorkflowNotRunning",
    "beat",
    "cancel_workflow",
    "change_worker_status",
    "claim_stage",
    "close_pool",
    "complete_attempt",
    "complete_stage",
    "complete_workflow",
    "crash_worker",
    "create_pool",
    "create_workflow",
    "doubt_broker",
    "drain_pool",
    "fail_attempt",
    "fail_stage",
    "fail_workflow",
    "give_up_attempt",
    "give_up_worker",
    "join_pool",
    "leave_pool",
    "missing_messages",
    "move_work",
    "move_workflow",
    "pools_to_tell",
    "postpone_dispatch",
    "queue_retry",
    "queue_stage",
    "register_worker",
    "remove_worker",
    "reopen_pool",
    "report_message",
    "report_progress",
    "retry_run",
    "sign_of_scheduler",
    "skip_stage",
    "start_run",
    "start_stage",
    "start_workflow",
    "tell_pool",
    "time_out_workflow",
    "trust_broker",
]
