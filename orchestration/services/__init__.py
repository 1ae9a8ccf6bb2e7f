"""The only writers of what is true.

Each function is one transaction, takes the moment of the change as `at` (default: now) and returns the row as it was
stored. Whatever cannot be done raises a `Refusal`, and then nothing was written.
"""

from __future__ import annotations

from orchestration.services.arguments import InvalidArgument, InvalidIdentifier
from orchestration.services.pools import PoolNotAccepting, PoolNotEmpty, close_pool, create_pool, drain_pool
from orchestration.services.refusal import Refusal
from orchestration.services.rows import (
    AlreadyExists,
    NotFound,
    PoolNotFound,
    StageNotFound,
    WorkerNotFound,
    WorkflowNotFound,
)
from orchestration.services.stages import (
    WorkflowNotRunning,
    complete_stage,
    fail_stage,
    queue_stage,
    skip_stage,
    start_stage,
)
from orchestration.services.transitions import IllegalTransition
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
    "IllegalTransition",
    "InvalidArgument",
    "InvalidIdentifier",
    "NotFound",
    "PoolNotAccepting",
    "PoolNotEmpty",
    "PoolNotFound",
    "Refusal",
    "StageNotFound",
    "WorkerInOtherPool",
    "WorkerNotFound",
    "WorkflowNotFound",
    "WorkflowNotRunning",
    "cancel_workflow",
    "change_worker_status",
    "close_pool",
    "complete_stage",
    "complete_workflow",
    "create_pool",
    "create_workflow",
    "drain_pool",
    "fail_stage",
    "fail_workflow",
    "queue_stage",
    "register_worker",
    "remove_worker",
    "skip_stage",
    "start_stage",
    "start_workflow",
    "time_out_workflow",
]
