"""Claim an attempt at a stage for a worker."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db import transaction

from orchestration.db.clock import database_now
from orchestration.limits import engine_limits
from orchestration.models import FailureReason, Stage, StageStatus, Worker, WorkerStatus, Workflow, WorkflowStatus
from orchestration.models.pool_counters import batched_counters
from orchestration.plan import StagePlan
from orchestration.services import validation
from orchestration.services.attempt_failures import WORKER_DIED, end_running_attempt
from orchestration.services.capabilities import (
    FindMissing,
    Requirement,
    StageNotRunnable,
    find_known_missing,
    meet_requirements,
    nothing_missing,
)
from orchestration.services.dispatch_window import fill_window
from orchestration.services.errors import ServiceError
from orchestration.services.holds import end_hold_of, record_refusal
from orchestration.services.map_progress import mark_changed
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


def claim_stage(
    stage_id: int,
    attempt: int,
    *,
    slot: Slot,
    find_missing: FindMissing = nothing_missing,
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
        if has_lost := worker.stage_id is not None:
            # In a separate transaction: this may lock the parent of a sub-run, and then no other run may be locked.
            end_running_attempt(worker, reason=FailureReason.LOST, error=WORKER_DIED, at=at)
            worker.save_locked(at=at, update_fields=["stage"])
        else:
            claim, missing = _claim_for(worker, stage_id, attempt, find_missing, at=at)
    if has_lost:
        return claim_stage(stage_id, attempt, slot=slot, find_missing=find_missing, at=at)
    if missing is not None:
        raise StageNotRunnable(slot.worker_id, str(missing))
    return claim


def _claim_for(
    worker: Worker, stage_id: int, attempt: int, find_missing: FindMissing, *, at: datetime
) -> tuple[Claim | None, Requirement | None]:
    """Claim an attempt for a locked worker without a stage, or return what it lacks."""
    stage = lock_stage_by_id(stage_id)
    if stage is None or not _may_claim(stage, attempt, worker):
        _end_lost_work(worker, at=at)
        return None, None
    missing = find_known_missing(worker, stage, at=at) or find_missing(stage)
    if missing is not None:
        _end_lost_work(worker, at=at)
        record_refusal(worker, stage, missing, at=at)
        return None, missing
    claim = start_attempt(stage, worker, at=at)
    worker.status = WorkerStatus.BUSY.value
    worker.save_locked(at=at, update_fields=["status", "stage"])
    return claim, None


def start_attempt(stage: Stage, worker: Worker, *, at: datetime) -> Claim:
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
        fill_window(stage.workflow, stage.pool_id)
    if stage.item_of_id is not None:
        mark_changed(stage)
    worker.stage = stage
    return Claim(stage=stage, workflow=stage.workflow, attempt=stage.attempt, plan=stage.stage_plan)


def _may_claim(stage: Stage, attempt: int, worker: Worker) -> bool:
    return (
        stage.status == StageStatus.QUEUED
        and stage.attempt + 1 == attempt
        and stage.pool_id == worker.pool_id
        and stage.workflow.status == WorkflowStatus.RUNNING
    )


def _end_lost_work(worker: Worker, *, at: datetime) -> None:
    """Set a worker that claims nothing in error if it is busy with no stage: its attempt was lost."""
    if worker.status == WorkerStatus.BUSY:
        set_worker_status(worker, WorkerStatus.ERROR, at=at)


def set_worker_status(worker: Worker, status: WorkerStatus, *, at: datetime) -> None:
    """Store the status and the stage of a locked worker."""
    worker.status = status.value
    worker.save_locked(at=at, update_fields=["status", "stage"])
