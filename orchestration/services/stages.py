"""Queue, start, complete, fail and skip stages, for workflows of an external orchestrator.

Of a workflow that the engine runs, only a stage that waits may be skipped, and hosted stages are reported by adapters.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db import transaction

from orchestration.db.clock import milliseconds_between
from orchestration.models import PoolStatus, Stage, StageStatus, Worker, WorkflowStatus
from orchestration.models.pool_counters import batched_counters
from orchestration.services import row_locks, validation
from orchestration.services.advance import advance, queue_step
from orchestration.services.errors import ServiceError
from orchestration.services.holds import end_hold
from orchestration.services.map_items import count_unqueued_item, step_behind
from orchestration.services.pools import PoolNotAccepting, reject_closed_pool
from orchestration.services.transitions import check_transition
from orchestration.services.workers import WorkerInOtherPool


class WorkflowNotRunning(ServiceError):
    """The stage cannot change, because its workflow does not run."""

    def __init__(self, workflow_id: str, status: str) -> None:
        self.workflow_id = workflow_id
        self.status = str(status)
        super().__init__(workflow_id, status)

    def __str__(self) -> str:
        return f"Workflow {self.workflow_id} has status {self.status}; stages can only change while it is running."


class EngineRun(ServiceError):
    """The engine changes the stages of the workflow itself; two masters would leave it stuck."""

    def __init__(self, workflow_id: str, stage_name: str) -> None:
        self.workflow_id = workflow_id
        self.stage_name = stage_name
        super().__init__(workflow_id, stage_name)

    def __str__(self) -> str:
        return (
            f"Workflow {self.workflow_id} is run by the engine, which changes stage {self.stage_name} itself; allowed: "
            "skip_stage before it starts, cancel_workflow, reassign_workflow and, after its end, retry_run."
        )


def queue_stage(*, workflow_id: str, stage_name: str, at: datetime | None = None) -> Stage:
    """Queue a pending stage of a running workflow in its pool.

    Raises:
        WorkflowNotFound, StageNotFound, IllegalTransition, WorkflowNotRunning
        PoolNotAccepting: if the pool is closed.
        EngineRun: if the engine runs the workflow. All functions of this module but `skip_stage` raise it.
    """
    at = validation.timestamp(at)
    with transaction.atomic():
        stage = row_locks.lock_stage(workflow_id, stage_name)
        with reject_closed_pool("stages"):
            queue_locked_stage(stage, at=at)
    return stage


def queue_locked_stage(stage: Stage, *, at: datetime) -> None:
    """Queue a stage that is locked with its workflow, as `queue_stage` does."""
    check_stage(stage, StageStatus.QUEUED)
    stage.status = StageStatus.QUEUED.value
    stage.save_locked(at=at, update_fields=["status"])


def start_stage(
    *, workflow_id: str, stage_name: str, worker_id: str | None = None, at: datetime | None = None
) -> Stage:
    """Start a stage of a running workflow, on a worker of its pool if one is named. The attempt number goes up by one.

    The status of the worker does not change: the worker itself reports that it is busy.

    Raises:
        WorkflowNotFound, StageNotFound, WorkerNotFound, IllegalTransition, WorkflowNotRunning
        PoolNotAccepting: if the pool is closed.
        WorkerInOtherPool: if the worker belongs to another pool than the stage.
    """
    at = validation.timestamp(at)
    with transaction.atomic():
        worker = row_locks.lock_worker(worker_id) if worker_id is not None else None
        stage = row_locks.lock_stage(workflow_id, stage_name)
        with reject_closed_pool("stages"):
            start_locked_stage(stage, worker, at=at)
    return stage


def start_locked_stage(stage: Stage, worker: Worker | None, *, at: datetime) -> None:
    """Start a stage that is locked with its workflow and worker, as `start_stage` does."""
    check_stage(stage, StageStatus.RUNNING, worker=worker)
    stage.status = StageStatus.RUNNING.value
    stage.worker = worker
    stage.attempt += 1
    stage.save_locked(at=at, update_fields=["status", "worker", "attempt"])


def complete_stage(
    *, workflow_id: str, stage_name: str, result: Mapping[str, Any] | None = None, at: datetime | None = None
) -> Stage:
    """Complete a stage of a running workflow, whether or not it was reported as queued or started.

    If the result has no `duration_ms`, it is added: the milliseconds since the stage started. If the start was not
    reported, they count from the last change of the workflow.

    Raises:
        InvalidArgument, WorkflowNotFound, StageNotFound, IllegalTransition, WorkflowNotRunning
    """
    at = validation.timestamp(at)
    given = validation.json_object("result", result)
    with transaction.atomic():
        stage = row_locks.lock_stage(workflow_id, stage_name)
        complete_locked_stage(stage, given, at=at)
    return stage


def complete_locked_stage(stage: Stage, result: dict[str, Any], *, at: datetime) -> None:
    """Complete a stage that is locked with its workflow, as `complete_stage` does. The result is valid."""
    check_stage(stage, StageStatus.COMPLETED)
    stage.status = StageStatus.COMPLETED.value
    stage.result = {"duration_ms": _duration_ms(stage, at)} | result
    stage.duration_ms = _stored_duration_ms(stage.result["duration_ms"], otherwise=_duration_ms(stage, at))
    stage.save_locked(at=at, update_fields=["status", "result", "duration_ms"])


def fail_stage(*, workflow_id: str, stage_name: str, error: str, at: datetime | None = None) -> Stage:
    """Fail a stage of a running workflow. The workflow does not change: the caller decides whether it fails.

    Raises:
        InvalidArgument, WorkflowNotFound, StageNotFound, IllegalTransition, WorkflowNotRunning
    """
    at = validation.timestamp(at)
    error = validation.text("error", error)
    with transaction.atomic():
        stage = row_locks.lock_stage(workflow_id, stage_name)
        fail_locked_stage(stage, error, at=at)
    return stage


def fail_locked_stage(stage: Stage, error: str, *, at: datetime) -> None:
    """Fail a stage that is locked with its workflow, as `fail_stage` does. The error is valid."""
    check_stage(stage, StageStatus.FAILED)
    stage.status = StageStatus.FAILED.value
    stage.error = error
    stage.duration_ms = _duration_ms(stage, at)
    stage.save_locked(at=at, update_fields=["status", "error", "duration_ms"])


def skip_stage(*, workflow_id: str, stage_name: str, at: datetime | None = None) -> Stage:
    """Skip a stage that has not started. Its workflow must be running. The engine continues a run after its own stage.

    Raises:
        WorkflowNotFound, StageNotFound, IllegalTransition, WorkflowNotRunning
        PoolNotAccepting: if the engine cannot continue the run, because its pool is closed.
        EngineRun: if the engine runs the stage now.
    """
    at = validation.timestamp(at)
    with reject_closed_pool("stages"), transaction.atomic(), batched_counters(at=at):
        stage = row_locks.lock_stage(workflow_id, stage_name)
        check_stage(stage, StageStatus.SKIPPED, may_be_run_by_engine=True)
        if stage.held:
            end_hold(stage.workflow, at=at)
        is_unqueued = stage.status == StageStatus.PENDING and stage.retry_at is None
        skip_locked_stage(stage, at=at)
        if stage.workflow.plan is not None:
            if stage.item_of_id is None:
                step = advance(stage.workflow, at=at)  # It may belong to a later step than the current one.
            else:
                step = count_unqueued_item(stage, at=at) if is_unqueued else step_behind(stage, at=at)
            queue_step(step, at=at)
    return stage


def skip_locked_stage(stage: Stage, *, at: datetime) -> None:
    """Skip a stage that is locked with its workflow. A run of the engine does not continue by that."""
    check_stage(stage, StageStatus.SKIPPED, may_be_run_by_engine=True)
    stage.status = StageStatus.SKIPPED.value
    stage.save_locked(at=at, update_fields=["status"])


def check_stage(
    stage: Stage, status: StageStatus, *, worker: Worker | None = None, may_be_run_by_engine: bool = False
) -> None:
    """Check that a stage, locked or not yet stored, may take this status on this worker.

    Raises:
        IllegalTransition, WorkflowNotRunning, PoolNotAccepting, WorkerInOtherPool, EngineRun
    """
    is_of_engine = stage.workflow.plan is not None and not stage.hosted
    if is_of_engine and (not may_be_run_by_engine or stage.status == StageStatus.RUNNING):
        raise EngineRun(stage.workflow_id, stage.name)
    # Check the stage first: stages of a finished workflow are finished too, and this error is more precise.
    check_transition("stage", str(stage), current=stage.status, requested=status)
    if stage.workflow.status != WorkflowStatus.RUNNING:
        raise WorkflowNotRunning(stage.workflow_id, stage.workflow.status)
    if status not in (StageStatus.QUEUED, StageStatus.RUNNING) or stage.pool is None:
        return
    if worker is not None and worker.pool_id != stage.pool_id:
        raise WorkerInOtherPool(worker.id, worker.pool_id, stage.pool.id)
    # If a concurrent transaction closes the pool, the database rejects the work.
    if stage.pool.status == PoolStatus.CLOSED:
        raise PoolNotAccepting(stage.pool.id, stage.pool.status, "stages")


def _duration_ms(stage: Stage, at: datetime) -> int:
    since = stage.started_at or max(stage.queued_at or stage.workflow.updated_at, stage.workflow.updated_at)
    return milliseconds_between(since, at)


def _stored_duration_ms(reported: object, *, otherwise: int) -> int:
    is_whole = isinstance(reported, int) and not isinstance(reported, bool) and 0 <= reported < 2**63
    return int(reported) if is_whole else otherwise  # type: ignore[call-overload]
