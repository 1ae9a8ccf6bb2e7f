"""Advance a workflow from step to step, queue its stages, and complete it after the last step."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import QuerySet

from orchestration.db.clock import database_now, milliseconds_between
from orchestration.db.compiled import CompiledSelect
from orchestration.dispatch import Message, dispatch_after_commit
from orchestration.limits import engine_limits
from orchestration.models import FINISHED_STAGE_STATUSES, Stage, StageStatus, Workflow, WorkflowStatus
from orchestration.models.pool_counters import PoolCounterDelta


def advance(workflow: Workflow, *, at: datetime, finished: Stage | None = None) -> list[Stage]:
    """Return the stages of the next step, for the caller to queue or start. Complete the workflow after its last step.

    While a stage of the current step is unfinished, the result is empty.

    Args:
        workflow: Running, and locked by the caller.
        at: The time of the change.
        finished: The stage whose completion is the reason for the call, if any.
    """
    from_step = 0 if finished is None else finished.step
    next_stages = _NEXT_TWO.rows(workflow.pk, from_step)
    if not next_stages:
        _complete(workflow, finished, at=at)
        return []
    step = next_stages[0].step
    if finished is not None and step == finished.step:
        return []
    if len(next_stages) == 2 and next_stages[1].step == step:
        next_stages = list(_unfinished_from(workflow.pk, step).filter(step=step))
    waiting = [stage for stage in next_stages if stage.step == step and _is_waiting(stage)]
    for stage in waiting:
        stage.workflow = workflow  # The caller read it under lock: avoid another query.
    return waiting


def _unfinished_from(workflow_id: str, from_step: int) -> QuerySet[Stage]:
    """Select and lock the unfinished stages of a workflow from this step on, in order."""
    stages = Stage.objects.filter(workflow_id=workflow_id, hosted=False, step__gte=from_step)
    return (
        stages.exclude(status__in=FINISHED_STAGE_STATUSES).select_for_update(no_key=True).order_by("step", "position")
    )


# Two rows are enough to detect a step with a single stage; most steps have one.
_NEXT_TWO: Final = CompiledSelect(lambda workflow_id, from_step: _unfinished_from(workflow_id, from_step)[:2], str, int)


def _is_waiting(stage: Stage) -> bool:
    return stage.status == StageStatus.PENDING and stage.retry_at is None


def _complete(workflow: Workflow, finished: Stage | None, *, at: datetime) -> None:
    workflow.mark_locked()
    total_duration_ms = 0 if workflow.started_at is None else milliseconds_between(workflow.started_at, at)
    workflow.status = WorkflowStatus.COMPLETED.value
    workflow.result = {"final_output": _final_output(workflow, finished), "total_duration_ms": total_duration_ms}
    workflow.save_locked(at=at, update_fields=["status", "result"])


def _final_output(workflow: Workflow, finished: Stage | None) -> Any:
    """Return the output of the last step: that of its only stage, or the outputs by stage name."""
    last: dict[int, dict[str, Any]] = {}
    for stage in _STAGES_FROM_STEP.rows(workflow.pk, 0 if finished is None else finished.step):
        last.setdefault(stage.step, {})[stage.name] = (stage.result or {}).get("output")
    outputs = last[max(last)]
    return next(iter(outputs.values())) if len(outputs) == 1 else outputs


_STAGES_FROM_STEP: Final = CompiledSelect(
    lambda workflow_id, from_step: Stage.objects.filter(
        workflow_id=workflow_id, hosted=False, step__gte=from_step
    ).order_by("position"),
    str,
    int,
)


def queue_stages(stages: Iterable[Stage], *, at: datetime) -> None:
    """Queue waiting stages of one running workflow, and dispatch them after the commit. The caller holds its lock.

    Takes a constant number of statements, however many stages there are.
    """
    stages = list(stages)
    if not stages:
        return
    delta = PoolCounterDelta()
    for stage in stages:
        delta.add_stage(stage.pool_id, stage.status, -1)
    queued = set_queued(stages, delta, at=at)
    Stage.objects.filter(pk__in=[stage.pk for stage in stages]).update(**queued)
    delta.write(at=at, using="default")
    dispatch_after_commit([message_for(stage) for stage in stages])


def set_queued(stages: Iterable[Stage], delta: PoolCounterDelta, *, at: datetime) -> dict[str, Any]:
    """Mark stages as queued in memory and add them to `delta`. Return the changed columns, for the caller to store."""
    due_at = database_now() + timedelta(seconds=engine_limits().redispatch_seconds)
    queued = {"status": StageStatus.QUEUED.value, "queued_at": at, "dispatch_due_at": due_at, "retry_at": None}
    for stage in stages:
        delta.add_stage(stage.pool_id, StageStatus.QUEUED, 1)
        for column, value in queued.items():
            setattr(stage, column, value)
    return queued


def message_for(stage: Stage) -> Message:
    """Return the broker message for the next attempt at a queued stage."""
    return Message(stage.pk, stage.attempt + 1, stage.pool_id or "")
