"""Advance a workflow from step to step, queue its stages, and complete it after the last step."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db.models import Count, QuerySet

from orchestration import signals
from orchestration.db.clock import milliseconds_between
from orchestration.db.compiled import CompiledSelect
from orchestration.dispatch import dispatch_after_commit, message_for
from orchestration.models import Stage, StageStatus, Workflow, WorkflowStatus
from orchestration.models.pool_counters import PoolCounterDelta
from orchestration.services.dispatch_window import (
    MAX_NARROW_STAGES,
    dispatch_due_at,
    fill_windows,
    mark_undispatched,
    window_room,
)


@dataclass(slots=True)
class NextStep:
    """The ready stages of a step that begins.

    Attributes:
        workflow: Their workflow, locked.
        stages: The first of them; the caller may start some, and removes these.
        rest_of: The step, if it has more ready stages, else None.
    """

    workflow: Workflow
    stages: list[Stage]
    rest_of: int | None = None


def advance(workflow: Workflow, *, at: datetime, finished: Stage | None = None) -> NextStep:
    """Return the next step, for the caller to queue or start. Complete the workflow after its last step.

    While a stage of the current step is unfinished, the result has no stages.

    Args:
        workflow: Running, and locked by the caller.
        at: The time of the change.
        finished: The stage whose completion is the reason for the call, if any.
    """
    from_step = 0 if finished is None else finished.step
    next_stages = _NEXT_TWO.rows(workflow.pk, from_step)
    if not next_stages:
        _complete(workflow, finished, at=at)
        return NextStep(workflow, [])
    step = next_stages[0].step
    if finished is not None and step == finished.step:
        return NextStep(workflow, [])
    if len(next_stages) == 2 and next_stages[1].step == step:
        next_stages = list(_locked_in_order(_ready_in(workflow.pk, step), MAX_NARROW_STAGES + 1))
    ready = [stage for stage in next_stages if stage.step == step and _is_ready(stage)]
    for stage in ready:
        stage.workflow = workflow  # The caller read it under lock: avoid another query.
    is_wide = len(ready) > MAX_NARROW_STAGES
    return NextStep(workflow, ready[:MAX_NARROW_STAGES], rest_of=step if is_wide else None)


def complete_stage_of_run(stage: Stage, output: Any, *, at: datetime) -> None:
    """Complete a stage with its output. The caller holds the locks of the stage and its workflow, and advances it.

    Args:
        stage: The stage.
        output: JSON, checked by the caller.
        at: The time of the change.
    """
    stage.mark_locked()
    stage.duration_ms = milliseconds_between(stage.started_at or at, at)
    stage.status = StageStatus.COMPLETED.value
    stage.error = ""
    stage.result = {"output": output, "duration_ms": stage.duration_ms}
    stage.save_locked(at=at, update_fields=["status", "error", "result", "duration_ms"])


def _unfinished_from(workflow_id: str, from_step: int) -> QuerySet[Stage]:
    """Select the unfinished stages of a workflow from this step on."""
    unfinished = Stage.objects.filter(workflow_id=workflow_id, finished_at=None, hosted=False, item_of=None)
    return unfinished.filter(step__gte=from_step)


def _pending_in(workflow_id: str, step: int) -> QuerySet[Stage]:
    """Select the stages of a step that neither run nor wait for a retry, hosted ones too."""
    unfinished = Stage.objects.filter(workflow_id=workflow_id, finished_at=None, item_of=None)
    return unfinished.filter(step=step, status=StageStatus.PENDING, retry_at=None)


def _ready_in(workflow_id: str, step: int) -> QuerySet[Stage]:
    """Select the ready stages of a step."""
    return _pending_in(workflow_id, step).filter(hosted=False)


def _locked_in_order(stages: QuerySet[Stage], limit: int) -> QuerySet[Stage]:
    return stages.select_for_update(no_key=True).order_by("step", "position")[:limit]


# Two rows are enough to detect a step with a single stage; most steps have one.
_NEXT_TWO: Final = CompiledSelect(
    lambda workflow_id, from_step: _locked_in_order(_unfinished_from(workflow_id, from_step), 2), str, int
)


def _is_ready(stage: Stage) -> bool:
    return stage.status == StageStatus.PENDING and stage.retry_at is None


def _complete(workflow: Workflow, finished: Stage | None, *, at: datetime) -> None:
    workflow.mark_locked()
    total_duration_ms = 0 if workflow.started_at is None else milliseconds_between(workflow.started_at, at)
    workflow.status = WorkflowStatus.COMPLETED.value
    workflow.result = {"final_output": _final_output(workflow, finished), "total_duration_ms": total_duration_ms}
    workflow.save_locked(at=at, update_fields=["status", "result"])


def _final_output(workflow: Workflow, finished: Stage | None) -> Any:
    """Return the output of the last completed step: that of its only stage, or the outputs by stage name.

    A step is completed if at least one of its stages is; skipped stages have no output. None if there is no such step.
    """
    stages = _last_completed(_STAGES_FROM_STEP.rows(workflow.pk, 0 if finished is None else finished.step))
    if not stages:  # All stages from this step on were skipped.
        completed = Stage.objects.filter(
            workflow_id=workflow.pk, hosted=False, item_of=None, status=StageStatus.COMPLETED
        )
        step = completed.order_by("-step").values_list("step", flat=True).first()
        stages = [] if step is None else _last_completed(_STAGES_FROM_STEP.rows(workflow.pk, step))
    outputs = {stage.name: (stage.result or {}).get("output") for stage in stages}
    return next(iter(outputs.values()), None) if len(outputs) <= 1 else outputs


def _last_completed(stages: Iterable[Stage]) -> list[Stage]:
    """Return the stages of the last step of these that has a completed stage, if any."""
    stages = list(stages)
    step = max((stage.step for stage in stages if stage.status == StageStatus.COMPLETED), default=None)
    return [stage for stage in stages if stage.step == step]


_STAGES_FROM_STEP: Final = CompiledSelect(
    lambda workflow_id, from_step: Stage.objects.filter(
        workflow_id=workflow_id, hosted=False, item_of=None, step__gte=from_step
    ).order_by("position"),
    str,
    int,
)


def queue_step(step: NextStep, *, at: datetime) -> None:
    """Queue the ready stages of a step, and dispatch as many as its window holds after the commit.

    Takes a constant number of statements, and loads a constant number of stages.
    """
    if step.rest_of is None:
        room = len(step.stages) if len(step.stages) <= MAX_NARROW_STAGES else None
        queue_stages(step.stages, at=at, room=room)
        return
    delta = PoolCounterDelta()
    pending = _pending_in(step.workflow.pk, step.rest_of)
    counts = list(pending.values_list("hosted", "pool_id").annotate(Count("pk")))
    for hosted, pool_id, count in counts:
        if not hosted:
            delta.add_stage(pool_id, StageStatus.QUEUED, count)
    ready = pending.filter(hosted=False)
    has_hosted = any(hosted for hosted, _, _ in counts)
    named = list(ready.order_by("position").only("name", "hosted")) if has_hosted else None
    queued = ready.update(status=StageStatus.QUEUED, queued_at=at)
    _send_queued(step.workflow, named, step=step.rest_of, count=queued, at=at)
    mark_undispatched(step.workflow, True)
    fill_windows(step.workflow)
    delta.write(at=at, using="default")


_QUEUED_COLUMNS: Final = ("status", "queued_at", "dispatch_due_at", "retry_at")


def queue_stages(stages: Iterable[Stage], *, at: datetime, room: int | None = None) -> None:
    """Queue ready stages of one running workflow, and dispatch them after the commit. The caller holds its lock.

    Takes a constant number of statements, however many stages there are.

    Args:
        stages: The stages.
        at: The time of the change.
        room: How many to dispatch; by default, those for which the run's window has room. Then all have one pool.
    """
    stages = list(stages)
    if not stages:
        return
    workflow = stages[0].workflow
    room = window_room(workflow, stages[0].pool_id) if room is None else room
    delta = PoolCounterDelta()
    for stage in stages:
        delta.add_stage(stage.pool_id, stage.status, -1)
    set_queued(stages[:room], stages[room:], delta, at=at)
    for group in (stages[:room], stages[room:]):
        if group:
            values = {column: getattr(group[0], column) for column in _QUEUED_COLUMNS}
            Stage.objects.filter(pk__in=[stage.pk for stage in group]).update(**values)
    if stages[room:]:
        mark_undispatched(workflow, True)
    signals.stages_queued.send(sender=Stage, workflow=workflow, stages=stages, at=at)
    delta.write(at=at, using="default")
    dispatch_after_commit([message_for(stage) for stage in stages[:room]])


def set_queued(
    dispatched: Iterable[Stage], undispatched: Iterable[Stage], delta: PoolCounterDelta, *, at: datetime
) -> None:
    """Mark stages as queued in memory, the first ones as dispatched too, and add them to `delta`."""
    for stages, due_at in ((dispatched, dispatch_due_at()), (undispatched, None)):
        for stage in stages:
            delta.add_stage(stage.pool_id, StageStatus.QUEUED, 1)
            stage.status = StageStatus.QUEUED.value
            stage.queued_at = at
            stage.dispatch_due_at = due_at
            stage.retry_at = None


def send_first_queued(workflow: Workflow, stages: Sequence[Stage], *, step: int, at: datetime) -> None:
    """Send the signal that the ready stages of the first step of a new run are queued."""
    is_wide = len(stages) > MAX_NARROW_STAGES
    has_hosted = any(stage.hosted and stage.step == step for stage in workflow.new_stages or ())
    _send_queued(workflow, None if is_wide and not has_hosted else stages, step=step, count=len(stages), at=at)


def _send_queued(workflow: Workflow, named: Sequence[Stage] | None, *, step: int, count: int, at: datetime) -> None:
    """Send the signal that stages are queued: these or, without names, all that wait in a step.

    A hosted stage is pending too, and is not queued. So the stages of a step that has one are named.
    """
    which: dict[str, Any] = {"step": step, "count": count} if named is None else {"stages": named}
    signals.stages_queued.send(sender=Stage, workflow=workflow, **which, at=at)
