"""Record an attempt that ended without success: retry its stage, or fail its run."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Final

from orchestration.db.clock import database_now, milliseconds_between
from orchestration.limits import engine_limits
from orchestration.models import FailedAttempt, FailureReason, Stage, StageStatus, Worker, WorkflowStatus
from orchestration.services.advance import NextStep, queue_stages, queue_step
from orchestration.services.map_items import fail_item
from orchestration.services.planned_stages import pool_of
from orchestration.services.row_locks import lock_stage_by_id

WORKER_DIED: Final = "The worker process died"
"""The error of an attempt whose process ended before it could report the outcome."""

WORKER_STOPPED: Final = "The worker was stopped"
"""The error of an attempt that was released."""

STAGE_TERMINATED: Final = "The process of the stage got SIGTERM, but its worker did not stop"
"""The error of an attempt that is lost, because something ended its process alone."""

TRANSACTION_LOST: Final = "The database ended the transaction of the stage, which is rolled back"
"""The error of an attempt at an atomic stage that is lost, because its transaction could not continue."""

_AT_ONCE: Final = frozenset({FailureReason.LOST, FailureReason.RELEASED, FailureReason.NOT_RUNNABLE})
"""The stage did not cause these: they use up none of its attempts, and it is queued again without a wait."""


def timeout_error(timeout_seconds: float) -> str:
    """Return the error of an attempt that exceeded its time limit."""
    return f"The stage took longer than {timeout_seconds:g} s"


def record_failure(
    stage: Stage, *, reason: str, error: str, at: datetime, traceback: str = "", may_retry: bool = True
) -> None:
    """Record a failed attempt at a running stage; retry or fail the stage. The caller locked it and its workflow."""
    failed = FailedAttempt.objects.create(
        stage=stage,
        attempt=stage.attempt,
        reason=reason,
        error=error,
        traceback=traceback,
        worker_name=stage.worker_id or "",
        started_at=stage.started_at,
        ended_at=at,
    )
    if reason in _AT_ONCE:
        stage.last_attempt += 1
    if reason == FailureReason.LOST:
        stage.lost_attempts += 1
        may_retry = stage.lost_attempts <= engine_limits().max_lost_attempts
    if may_retry and stage.attempt < stage.last_attempt:
        _schedule_retry(stage, failed, at=at)
        return
    fail_stage_of_run(stage, error=error, at=at)


def fail_stage_of_run(stage: Stage, *, error: str, at: datetime) -> None:
    """Fail a stage for good: its run fails, unless it is an item that may fail. The caller locked both."""
    if stage.item_of_id is None:
        fail_run(stage, error=error, at=at)
        return
    _fail_stage(stage, error=error, at=at)
    result = fail_item(stage, error=error, at=at)
    if isinstance(result, NextStep):
        queue_step(result, at=at)
    else:
        waiting, error = result
        fail_run(waiting.mark_locked(), error=error, at=at)


def fail_run(stage: Stage, *, error: str, at: datetime) -> None:
    """Fail a stage and its workflow. The caller locked both."""
    _fail_stage(stage, error=error, at=at)
    workflow = stage.workflow.mark_locked()
    workflow.status = WorkflowStatus.FAILED.value
    workflow.error = stage_failed(stage.name, error)
    workflow.save_locked(at=at, update_fields=["status", "error"])


def _fail_stage(stage: Stage, *, error: str, at: datetime) -> None:
    stage.status = StageStatus.FAILED.value
    stage.error = error
    stage.duration_ms = milliseconds_between(stage.started_at or at, at)
    columns = ["status", "error", "duration_ms", "lost_attempts", "last_attempt"]
    stage.save_locked(at=at, update_fields=columns)


def stage_failed(stage_name: str, error: str) -> str:
    """Return the error of a workflow whose stage failed."""
    return f"The stage {stage_name} failed: {error}"


def end_running_attempt(worker: Worker, *, reason: str, error: str, at: datetime) -> None:
    """End the attempt, if any, of a locked worker that can no longer end it itself. The worker is not saved."""
    stage = lock_stage_by_id(worker.stage_id) if worker.stage_id is not None else None
    worker.stage = None
    if stage is not None and stage.status == StageStatus.RUNNING and stage.worker_id == worker.pk:
        record_failure(stage, reason=reason, error=error, at=at)


def _schedule_retry(stage: Stage, failed: FailedAttempt, *, at: datetime) -> None:
    wait_seconds = 0.0 if failed.reason in _AT_ONCE else _wait_seconds(stage)
    # The run may have moved during the attempt. Its pool may be closed by now: `queue_retry()` allows for that.
    run_pool_id = stage.workflow.pool_id
    pool_id = run_pool_id if stage.plan is None else pool_of(stage.stage_plan, run_pool_id)
    queue_at_once = not wait_seconds and stage.pool_id == pool_id
    stage.pool_id = pool_id
    stage.status = StageStatus.PENDING.value
    stage.retry_at = None if queue_at_once else database_now() + timedelta(seconds=wait_seconds)
    stage.ended_attempt = failed
    stage.save_locked(at=at, update_fields=["status", "pool", "retry_at", "lost_attempts", "last_attempt"])
    if queue_at_once:
        # What a worker lacks, another may lack too: it is dispatched later.
        room = 0 if failed.reason == FailureReason.NOT_RUNNABLE else None
        queue_stages([stage], at=at, room=room)


def _wait_seconds(stage: Stage) -> float:
    retries = stage.stage_plan.retries
    # `retry_run` does not reset the attempt number: derive the number of failures from the attempts left.
    failed_attempts = max(1, retries.max_attempts - (stage.last_attempt - stage.attempt))
    return retries.wait_seconds(failed_attempts, jitter=random.random())
