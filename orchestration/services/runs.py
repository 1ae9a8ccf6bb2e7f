"""Start runs that the engine carries out, and try them again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from django.db import IntegrityError, transaction

from orchestration.db.clock import database_now
from orchestration.dispatch import dispatch_after_commit
from orchestration.models import (
    FINISHED_WORKFLOW_STATUSES,
    Pool,
    PoolStatus,
    Stage,
    StageStatus,
    Workflow,
    WorkflowStatus,
)
from orchestration.models.pool_counters import PoolCounterDelta
from orchestration.models.workflow import MAX_ADAPTER_LENGTH, MAX_KEY_LENGTH
from orchestration.plan import Plan, StagePlan
from orchestration.services import locking, validation
from orchestration.services.advance import advance, message_for, queue_stages, set_queued
from orchestration.services.pools import PoolNotAccepting, closed_pool_refuses, create_pool
from orchestration.services.transitions import IllegalTransition


def start_run(
    plan: Plan,
    *,
    prompt: str,
    params: Mapping[str, Any],
    pool_id: str,
    key: str | None = None,
    workflow_id: str | None = None,
    at: datetime | None = None,
) -> Workflow:
    """Store a run with all its stages, set it running and queue its first step. Its pool is made if there is none.

    With a key that this definition was started with before, nothing is changed and that run is returned.

    Raises:
        InvalidIdentifier, InvalidArgument, AlreadyExists
        PoolNotAccepting: if the pool is draining or closed.
    """
    at = validation.moment(at)
    started_for = "" if key is None else _started_for(plan.name, key)
    if started_for and (known := Workflow.objects.filter(key=started_for).first()) is not None:
        return known
    workflow = Workflow(
        adapter=validation.text("adapter", plan.adapter, max_length=MAX_ADAPTER_LENGTH, may_be_empty=False),
        prompt=validation.text("prompt", prompt),
        params=validation.json_object("params", params),
        pool_id=validation.identifier("pool_id", pool_id),
        plan=validation.json_object("plan", plan.to_json()),
        key=started_for,
        total_stages=len(plan.stages),
        created_at=at,
        updated_at=at,
    )
    if workflow_id is not None:
        workflow.id = validation.identifier("workflow_id", workflow_id)
    validation.stage_names("stages", [stage.name for stage in plan.stages])
    _ensure_active_pool(pool_id, at=at)
    try:
        with closed_pool_refuses("new workflows", pool_id=pool_id), transaction.atomic():
            _store(workflow, plan, at=at)
    except locking.AlreadyExists:
        # Another start with the same key may have been faster.
        if started_for and (known := Workflow.objects.filter(key=started_for).first()) is not None:
            return known
        raise
    return workflow


def retry_run(*, workflow_id: str, from_stage: str | None = None, at: datetime | None = None) -> Workflow:
    """Set a finished run running again: what did not complete or, if a stage is named, all from that one's step on.

    Attempts go on counting, so that a worker that still runs an old one is refused; each stage may be tried as often
    again as its stage_plan says.

    Raises:
        InvalidIdentifier, WorkflowNotFound, StageNotFound
        IllegalTransition: if it is not finished, or is completed and no stage is named.
        InvalidArgument: if it is not a run of the engine.
        PoolNotAccepting: if its pool is closed.
    """
    at = validation.moment(at)
    with transaction.atomic():
        workflow = locking.lock_workflow(workflow_id)
        if workflow.plan is None:
            raise validation.InvalidArgument("workflow_id", workflow_id, "a run that the engine carries out")
        again = [*FINISHED_WORKFLOW_STATUSES] if from_stage is not None else [*_UNSUCCESSFUL]
        if workflow.status not in again:
            raise IllegalTransition("workflow", workflow_id, workflow.status, WorkflowStatus.RUNNING)
        if workflow.pool is not None and workflow.pool.status == PoolStatus.CLOSED:
            raise PoolNotAccepting(workflow.pool.pk, PoolStatus.CLOSED, "stages")
        stages = list(workflow.stages.select_for_update(no_key=True).order_by("pk"))
        for stage in _stages_to_rerun(workflow, stages, from_stage):
            _reset_stage(stage)
        workflow.status = WorkflowStatus.RUNNING.value
        workflow.error = ""
        workflow.result = None
        workflow.deadline_at = _deadline(workflow)
        workflow.stages_completed = sum(stage.status == StageStatus.COMPLETED for stage in stages)
        workflow.save_locked(at=at, update_fields=["status", "error", "result", "deadline_at", "stages_completed"])
        queue_stages(advance(workflow, at=at), at=at)
    return workflow


_UNSUCCESSFUL = (WorkflowStatus.FAILED, WorkflowStatus.CANCELLED, WorkflowStatus.TIMEOUT)


def _store(workflow: Workflow, plan: Plan, *, at: datetime) -> None:
    first = min(stage.step for stage in plan.stages if not stage.hosted)
    stages = [_new_stage(workflow, stage_plan, position) for position, stage_plan in enumerate(plan.stages)]
    waiting = [stage for stage in stages if stage.step == first and not stage.hosted]
    counts = PoolCounterDelta()
    set_queued(waiting, counts, at=at)
    # The stages go in first, so that whoever hears of the workflow finds them: foreign keys are checked at commit.
    try:
        stages = Stage.objects.bulk_create(stages)
    except IntegrityError as error:
        raise locking.AlreadyExists("workflow", workflow.id) from error
    workflow.status = WorkflowStatus.RUNNING.value
    workflow.started_at = at
    workflow.deadline_at = _deadline(workflow)
    locking.insert(workflow, at=at)
    counts.write(at=at, using="default")
    dispatch_after_commit([message_for(stage) for stage in waiting])


def _new_stage(workflow: Workflow, stage_plan: StagePlan, position: int) -> Stage:
    return Stage(
        workflow=workflow,
        name=stage_plan.name,
        position=position,
        # A hosted stage takes no slot of the pool, and so is not counted there.
        pool_id=None if stage_plan.hosted else workflow.pool_id,
        step=stage_plan.step,
        hosted=stage_plan.hosted,
        last_attempt=stage_plan.retries.max_attempts,
        plan=validation.json_object("options", stage_plan.to_json()),
    )


def _stages_to_rerun(workflow: Workflow, stages: list[Stage], from_stage: str | None) -> list[Stage]:
    if from_stage is None:
        return [stage for stage in stages if stage.status != StageStatus.COMPLETED]
    named = next((stage for stage in stages if stage.name == from_stage and not stage.hosted), None)
    if named is None:
        raise locking.StageNotFound(workflow.pk, from_stage)
    return [
        stage for stage in stages if stage == named or stage.step > named.step or stage.status != StageStatus.COMPLETED
    ]


def _reset_stage(stage: Stage) -> None:
    stage_plan = StagePlan.from_json(stage.plan or {})
    # No counter of a pool is concerned: a finished run has no stage that is queued or runs, and totals never go down.
    stage.status = StageStatus.PENDING.value
    stage.worker = None
    stage.result = stage.duration_ms = stage.progress = None
    stage.error = stage.progress_message = ""
    stage.finished_at = None
    stage.lost_attempts = 0
    stage.last_attempt = stage.attempt + stage_plan.retries.max_attempts
    columns = ("worker", "result", "duration_ms", "progress", "error", "progress_message", "finished_at")
    values = {column: getattr(stage, column) for column in (*columns, "status", "lost_attempts", "last_attempt")}
    Stage.objects.filter(pk=stage.pk).update(**values)


def _deadline(workflow: Workflow) -> datetime | None:
    seconds = (workflow.plan or {}).get("timeout_seconds")
    return None if seconds is None else database_now() + timedelta(seconds=seconds)


def _started_for(name: str, key: str) -> str:
    return validation.text("key", f"{name}:{key}", max_length=MAX_KEY_LENGTH)


def _ensure_active_pool(pool_id: str, *, at: datetime) -> None:
    """Make the pool if there is none, and let it pass if it takes new workflows.

    Raises:
        PoolNotAccepting
    """
    status = Pool.objects.filter(pk=pool_id).values_list("status", flat=True).first()
    if status is None:
        try:
            status = create_pool(pool_id=pool_id, at=at).status
        except locking.AlreadyExists:
            return
    if status != PoolStatus.ACTIVE:
        raise PoolNotAccepting(pool_id, status, "new workflows")
