"""The stored state: pools, workers, workflows and their stages."""

from __future__ import annotations

from typing import Final

from django.db.models import Model

from orchestration.models.child_runs import ChildRuns
from orchestration.models.failed_attempt import FailedAttempt
from orchestration.models.installation import Installation
from orchestration.models.pool import POOL_COUNTERS, Pool
from orchestration.models.pool_sample import PoolSample
from orchestration.models.scheduler_heartbeat import SchedulerHeartbeat
from orchestration.models.stage import Stage
from orchestration.models.stage_deletion import count_after_delete, lock_before_delete
from orchestration.models.stage_map import StageMap
from orchestration.models.statuses import (
    FINISHED_STAGE_STATUSES,
    FINISHED_WORKFLOW_STATUSES,
    FailureReason,
    HoldReason,
    PoolStatus,
    StageStatus,
    WaitKind,
    WaitStatus,
    WorkerStatus,
    WorkflowStatus,
)
from orchestration.models.step_record import StepRecord
from orchestration.models.stream_content import StreamContent
from orchestration.models.unfinished_stages import settle_stages
from orchestration.models.unmet_requirement import UnmetRequirement
from orchestration.models.wait import EarlyAnswer, Wait
from orchestration.models.worker import Worker
from orchestration.models.workflow import Workflow

STAGE_PARTS: Final[tuple[type[Model], ...]] = (
    ChildRuns,
    FailedAttempt,
    StageMap,
    StepRecord,
    StreamContent,
    Wait,
)
"""The tables whose rows belong to a stage and go with it; each has the column `stage`. Add a new one here."""

__all__ = [
    "FINISHED_STAGE_STATUSES",
    "FINISHED_WORKFLOW_STATUSES",
    "POOL_COUNTERS",
    "STAGE_PARTS",
    "ChildRuns",
    "EarlyAnswer",
    "FailedAttempt",
    "FailureReason",
    "HoldReason",
    "Installation",
    "Pool",
    "PoolSample",
    "PoolStatus",
    "SchedulerHeartbeat",
    "Stage",
    "StageMap",
    "StageStatus",
    "StepRecord",
    "StreamContent",
    "UnmetRequirement",
    "Wait",
    "WaitKind",
    "WaitStatus",
    "Worker",
    "WorkerStatus",
    "Workflow",
    "WorkflowStatus",
    "count_after_delete",
    "lock_before_delete",
]

# Set here to avoid a circular import: `unfinished_stages` imports both models, so `workflow` cannot import it.
Workflow.settle_stages = settle_stages
