"""Claim an attempt at a stage, and record how it ended.

A stage id and a number identify an attempt. Ending an attempt needs both, and changes nothing if a newer attempt has
started or the stage has finished in another way. So a worker that was marked offline cannot change anything when it
returns.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from orchestration.db.clock import database_now, milliseconds_between
from orchestration.limits import engine_limits
from orchestration.models import FailureReason, Stage, StageStatus, Worker, WorkerStatus, Workflow, WorkflowStatus
from orchestration.models.pool_counters import batched_counters
from orchestration.plan import StagePlan
from orchestration.services import validation
from orchestration.services.advance import advance, queue_step
from orchestration.services.attempt_failures import WORKER_DIED, end_running_attempt, record_failure
from orchestration.services.capabilities import Requirement, StageNotRunnable, find_known_missing, meet_requirements
from orchestration.services.dispatch_window import fill_window
from orchestration.services.errors import ServiceError
from orchestration.services.holds import end_hold_of, record_refusal
from orchestration.services.pools import reject_closed_pool
from orchestration.services.row_locks import lock_slot_worker, lock_stage_by_id


class StaleWorker(ServiceError):
    """The worker drains or was marked offline; another process may be registered under its id."""

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        super().__init__(worker_id)

    def __str__(self) -> str:
        return f"Worker {self.worker_id} drains, is offline, or is registered to another process."


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """A worker and the process that is registered under its id."""

    worker_id: str
    process: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Claim:
    """An attempt that a worker may run, with everything that it needs."""

    stage: Stage
    workflow: Workflow
    attempt: int
    plan: StagePlan


@dataclass(frozen=True, kw_only=True, slots=True)
class AttemptOutcome:
    """The result of reporting the end of an attempt.

    Attributes:
        accepted: False if the stage has ended or has a newer attempt: then nothing changed.
        next: The attempt that the worker must run now, if any.
    """

    accepted: bool
    next: Claim | None = None


def claim_stage(
    stage_id: int,
    attempt: int,
    *,
    slot: Slot,
    find_missing: Callable[[Stage], Requirement | None] = lambda stage: None,
    at: datetime | None = None,
) -> Claim | None:
    """Claim an attempt at a queued stage for a worker, which becomes busy.

    If the worker still has a running attempt, its process died: that attempt is recorded as lost.

    Args:
        stage_id: The stage.
        attempt: The number of the attempt.
        slot: The worker.
        find_missing: Returns what the worker lacks to run the stage; None if nothing. What it raises is raised.
        at: The time of the change; None means now.

    Returns:
        None if another worker has claimed the attempt, or if it is not the next one of the stage.

    Raises:
        StaleWorker: if the worker drains, is offline, or is registered to another process.
        StageNotRunnable: if the worker lacks something that the stage needs, or has another release. The stage stays
            queued.
    """
    at = validation.timestamp(at)
    with transaction.atomic(), batched_counters(at=at):
        worker = lock_slot_worker(slot.worker_id, slot.process)
        if worker is None or worker.status == WorkerStatus.OFFLINE or worker.draining:
            raise StaleWorker(slot.worker_id)
        if worker.stage_id is not None:
            end_running_attempt(worker, reason=FailureReason.LOST, error=WORKER_DIED, at=at)
        stage = lock_stage_by_id(stage_id)
        if stage is None or not _may_claim(stage, attempt, worker):
            _end_lost_work(worker, at=at)
            return None
        missing = find_known_missing(worker, stage, at=at) or find_missing(stage)
        if missing is not None:
            _end_lost_work(worker, at=at)
            record_refusal(worker, stage, missing, at=at)
        else:
            claim = _start_attempt(stage, worker, at=at)
            worker.status = WorkerStatus.BUSY.value
            worker.save_locked(at=at, update_fields=["status", "stage"])
    if missing is not None:
        raise StageNotRunnable(slot.worker_id, str(missing))
    return claim


def complete_attempt(
    stage_id: int,
    attempt: int,
    *,
    slot: Slot,
    output: Any,
    continue_inline: bool = False,
    find_missing: Callable[[Stage], Requirement | None] = lambda stage: None,
    at: datetime | None = None,
) -> AttemptOutcome:
    """Complete an attempt, advance its workflow, and set the worker idle.

    Args:
        stage_id: The stage.
        attempt: The number of the attempt.
        slot: The worker that ran it.
        output: JSON, checked by the caller.
        continue_inline: Whether to claim a stage of the next step for the same worker, if its pool has one. That saves
            the round trip through the broker, and the worker stays busy.
        find_missing: Returns what the worker lacks to run a stage of the next step; None if nothing.
        at: The time of the change; None means now.

    Raises:
        PoolNotAccepting: if the next step belongs to a pool that is closed.
    """
    at = validation.timestamp(at)
    claim = None
    with reject_closed_pool("stages"), transaction.atomic(), batched_counters(at=at):
        worker = lock_slot_worker(slot.worker_id, slot.process)
        stage = _lock_running(stage_id, attempt)
        if stage is not None:
            stage.duration_ms = milliseconds_between(stage.started_at or at, at)
            stage.status = StageStatus.COMPLETED.value
            stage.error = ""
            stage.result = {"output": output, "duration_ms": stage.duration_ms}
            stage.save_locked(at=at, update_fields=["status", "error", "result", "duration_ms"])
            if worker is not None:
                meet_requirements(worker, stage, has_run=True)
            step = advance(stage.workflow, at=at, finished=stage)
            if continue_inline and worker is not None and worker.stage_id == stage_id and not worker.draining:
                mine = next((each for each in step.stages if each.pool_id == worker.pool_id), None)
                if mine is not None and (find_known_missing(worker, mine, at=at) or find_missing(mine)) is None:
                    step.stages.remove(mine)
                    claim = _start_attempt(mine.mark_locked(), worker, at=at)
                    worker.save_locked(at=at, update_fields=["stage"])
            queue_step(step, at=at)
        if claim is None:
            _release(worker, stage_id, at=at)
    return AttemptOutcome(accepted=stage is not None, next=claim)


def fail_attempt(
    stage_id: int,
    attempt: int,
    *,
    slot: Slot,
    error: str,
    traceback: str = "",
    may_retry: bool = True,
    at: datetime | None = None,
) -> AttemptOutcome:
    """Fail an attempt and set the worker idle. Retry the stage if it has attempts left, else fail the workflow."""
    at = validation.timestamp(at)
    with transaction.atomic(), batched_counters(at=at):
        worker = lock_slot_worker(slot.worker_id, slot.process)
        stage = _lock_running(stage_id, attempt)
        if stage is not None:
            record_failure(
                stage, reason=FailureReason.FAILED, error=error, traceback=traceback, may_retry=may_retry, at=at
            )
        _release(worker, stage_id, at=at)
    return AttemptOutcome(accepted=stage is not None)


def release_attempt(
    stage_id: int,
    attempt: int,
    *,
    slot: Slot,
    error: str = "",
    reason: FailureReason = FailureReason.RELEASED,
    missing: Requirement | None = None,
    at: datetime | None = None,
) -> AttemptOutcome:
    """Give back an attempt, and set the worker idle. The stage is queued again; it has used up none of its attempts.

    Args:
        stage_id: The stage.
        attempt: The number of the attempt.
        slot: The worker that ran it.
        error: The error, unless the worker lacks something.
        reason: Released, or lost if its process was to end although the worker did not stop. A stage may lose
            `max_lost_attempts`. Not used with `missing`.
        missing: What the stage needs and the worker lacks. The process of this worker does not claim the stage again
            for `NOT_RUNNABLE_SECONDS`.
        at: The time of the change; None means now.
    """
    at = validation.timestamp(at)
    with transaction.atomic(), batched_counters(at=at):
        worker = lock_slot_worker(slot.worker_id, slot.process)
        stage = _lock_running(stage_id, attempt)
        if stage is not None:
            if missing is None:
                record_failure(stage, reason=reason, error=error, at=at)
            else:
                reason = FailureReason.NOT_RUNNABLE
                record_failure(stage, reason=reason, error=missing.name, traceback=missing.reason, at=at)
                # Not if the run has moved: the workers of the other pool are offered the stage.
                if worker is not None and stage.status == StageStatus.QUEUED:
                    record_refusal(worker, stage, missing, at_run_time=True, at=at)
        _release(worker, stage_id, at=at)
    return AttemptOutcome(accepted=stage is not None)


def _start_attempt(stage: Stage, worker: Worker, *, at: datetime) -> Claim:
    """Start an attempt at a locked stage on a locked worker. The worker is not saved."""
    end_hold_of(stage, at=at)
    meet_requirements(worker, stage, has_run=False)
    stage.status = StageStatus.RUNNING.value
    stage.worker = worker
    stage.attempt += 1
    stage.progress = None
    stage.progress_message = ""
    stage.lease_expires_at = database_now() + timedelta(seconds=engine_limits().lease_seconds)
    columns = ("status", "worker", "attempt", "progress", "progress_message", "lease_expires_at")
    stage.save_locked(at=at, update_fields=columns)
    if stage.workflow.has_undispatched_stages:
        fill_window(stage.workflow)
    worker.stage = stage
    return Claim(stage=stage, workflow=stage.workflow, attempt=stage.attempt, plan=stage.stage_plan)


def _may_claim(stage: Stage, attempt: int, worker: Worker) -> bool:
    return (
        stage.status == StageStatus.QUEUED
        and stage.attempt + 1 == attempt
        and stage.pool_id == worker.pool_id
        and stage.workflow.status == WorkflowStatus.RUNNING
    )


def _lock_running(stage_id: int, attempt: int) -> Stage | None:
    stage = lock_stage_by_id(stage_id)
    if stage is None or stage.status != StageStatus.RUNNING or stage.attempt != attempt:
        return None
    return stage


def _release(worker: Worker | None, stage_id: int, *, at: datetime) -> None:
    # If its stage was deleted meanwhile, the worker is busy with none.
    if worker is not None and (
        worker.stage_id == stage_id or (worker.stage_id is None and worker.status == WorkerStatus.BUSY)
    ):
        worker.stage = None
        _set_worker_status(worker, WorkerStatus.IDLE, at=at)


def _end_lost_work(worker: Worker, *, at: datetime) -> None:
    """Set a worker that claims nothing in error if it is busy with no stage: its attempt was lost."""
    if worker.stage_id is None and worker.status == WorkerStatus.BUSY:
        _set_worker_status(worker, WorkerStatus.ERROR, at=at)


def _set_worker_status(worker: Worker, status: WorkerStatus, *, at: datetime) -> None:
    worker.status = status.value
    worker.save_locked(at=at, update_fields=["status", "stage"])
