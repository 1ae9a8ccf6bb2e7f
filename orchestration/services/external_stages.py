"""Stages of an external orchestrator that its plan did not name: add them, queue them again, and add messages."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.db import transaction
from django.db.models import Max

from orchestration import signals
from orchestration.models import FailedAttempt, FailureReason, PoolStatus, Stage, StageStatus, Workflow, WorkflowStatus
from orchestration.models.stage import MAX_STAGE_NAME_LENGTH
from orchestration.models.unit_of_work import current_unit
from orchestration.services import row_locks, validation
from orchestration.services.pools import PoolNotAccepting, check_pool_exists, reject_closed_pool, reject_removed_pool
from orchestration.services.stages import EngineRun, WorkflowNotRunning
from orchestration.services.transitions import IllegalTransition

_UNFINISHED: Final = (StageStatus.PENDING, StageStatus.QUEUED, StageStatus.RUNNING)


def add_stage(*, workflow_id: str, stage_name: str, pool_id: str | None = None, at: datetime | None = None) -> Stage:
    """Add a pending stage to a running workflow, as its last one.

    Raises:
        InvalidArgument, WorkflowNotFound, PoolNotFound, AlreadyExists, WorkflowNotRunning
        EngineRun: if the engine runs the workflow. All functions of this module raise it.
    """
    at = validation.timestamp(at)
    name = validation.text("stage_name", stage_name, max_length=MAX_STAGE_NAME_LENGTH, may_be_empty=False)
    with reject_removed_pool(pool_id), transaction.atomic():
        workflow = row_locks.lock_workflow(workflow_id)
        _check(workflow, name)
        if pool_id is not None:
            check_pool_exists(pool_id)
        if workflow.stages.filter(name=name).exists():
            raise row_locks.AlreadyExists("stage", f"{workflow_id}/{name}")
        last = workflow.stages.aggregate(last=Max("position"))["last"]
        stage = Stage(workflow=workflow, name=name, position=0 if last is None else last + 1, pool_id=pool_id)
        stage.insert(at=at)
    return stage


def requeue_stage(
    *, workflow_id: str, stage_name: str, error: str, reason: str = FailureReason.FAILED, at: datetime | None = None
) -> Stage:
    """Record that an attempt at a running stage has failed, and queue the stage again: another attempt follows.

    Raises:
        InvalidArgument, WorkflowNotFound, StageNotFound, WorkflowNotRunning
        IllegalTransition: if the stage does not run.
        PoolNotAccepting: if its pool is closed.
    """
    at = validation.timestamp(at)
    with reject_closed_pool("stages"), transaction.atomic():
        stage = row_locks.lock_stage(workflow_id, stage_name)
        requeue_locked_stage(stage, error, reason=reason, at=at)
    return stage


def requeue_locked_stage(stage: Stage, error: str, *, reason: str, at: datetime) -> None:
    """Queue a stage again that is locked with its workflow, as `requeue_stage` does."""
    check_attempt_failure(error, reason)
    _check(stage.workflow, stage.name)
    if stage.status != StageStatus.RUNNING:
        rule = "only a running one has an attempt that can fail"
        raise IllegalTransition("stage", str(stage), stage.status, StageStatus.QUEUED, rule)
    if stage.pool is not None and stage.pool.status == PoolStatus.CLOSED:
        raise PoolNotAccepting(stage.pool.pk, stage.pool.status, "stages")
    stage.ended_attempt = failed = FailedAttempt(
        stage=stage,
        attempt=stage.attempt,
        reason=reason,
        error=error,
        worker_name=stage.worker_id or "",
        started_at=stage.started_at,
        ended_at=at,
    )
    if (unit := current_unit()) is None:
        failed.save(force_insert=True)
    else:
        unit.insert(failed)
    stage.last_attempt = stage.attempt + 1
    stage.status = StageStatus.PENDING.value
    stage.save_locked(at=at, update_fields=["status", "last_attempt"])
    stage.mark_locked().status = StageStatus.QUEUED.value
    stage.save_locked(at=at, update_fields=["status"])


def check_attempt_failure(error: str, reason: str) -> None:
    """Check how an attempt has failed.

    Raises:
        InvalidArgument
    """
    validation.text("error", error)
    if reason not in FailureReason.values:
        raise validation.InvalidArgument("reason", reason, f"one of {', '.join(FailureReason.values)}")


def add_message(*, workflow_id: str, stage_name: str, message: str, at: datetime | None = None) -> Stage:
    """Send a message about an unfinished stage to the subscribers of its workflow.

    Raises:
        InvalidArgument, WorkflowNotFound, StageNotFound, WorkflowNotRunning
        IllegalTransition: if the stage has finished.
    """
    at = validation.timestamp(at)
    with transaction.atomic():
        stage = row_locks.lock_stage(workflow_id, stage_name)
        add_message_to_locked_stage(stage, message, at=at)
    return stage


def add_message_to_locked_stage(stage: Stage, message: str, *, at: datetime) -> None:
    """Send a message about a stage that is locked with its workflow, as `add_message` does."""
    validation.text("message", message)
    _check(stage.workflow, stage.name)
    if stage.status not in _UNFINISHED:
        rule = "only an unfinished one has messages"
        raise IllegalTransition("stage", str(stage), stage.status, stage.status, rule)
    signals.stage_logged.send(sender=Stage, stage=stage, message=message, at=at)


def _check(workflow: Workflow, stage_name: str) -> None:
    if workflow.plan is not None:
        raise EngineRun(workflow.pk, stage_name)
    if workflow.status != WorkflowStatus.RUNNING:
        raise WorkflowNotRunning(workflow.pk, workflow.status)
