"""Start workflows that the engine runs, and retry finished ones."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.db.models import F

from orchestration.db.clock import database_now
from orchestration.dispatch import dispatch_after_commit, message_for
from orchestration.identifiers import MAX_RELEASE_LENGTH
from orchestration.models import (
    FINISHED_WORKFLOW_STATUSES,
    PoolStatus,
    Stage,
    StageStatus,
    Workflow,
    WorkflowStatus,
)
from orchestration.models.pool_counters import PoolCounterDelta
from orchestration.models.workflow import MAX_ADAPTER_LENGTH, MAX_KEY_LENGTH
from orchestration.plan import Plan, StagePlan
from orchestration.services import row_locks, validation
from orchestration.services.advance import advance, queue_step, set_queued
from orchestration.services.dispatch_window import new_window_room
from orchestration.services.errors import ServiceError
from orchestration.services.pools import (
    NEW_WORKFLOWS,
    PoolNotAccepting,
    ensure_pool,
    reject_closed_pool,
    reject_removed_pool,
)
from orchestration.services.transitions import IllegalTransition

_READ_TO_RERUN: Final = ("pk", "name", "step", "status", "hosted", "plan", "workflow_id")
_RESET_AT_ONCE: Final = 500
_UNSTARTED: Final[dict[str, Any]] = {
    "status": StageStatus.PENDING,
    **dict.fromkeys(("worker", "result", "duration_ms", "progress", "finished_at")),
    "error": "",
    "progress_message": "",
    "lost_attempts": 0,
}


class KeyConflict(ServiceError):
    """The definition was started with this key before, but with another prompt or other parameters.

    Attributes:
        key: The key.
        workflow_id: The workflow that was started with it.
        differences: What that workflow has instead, such as `failures=3`.
    """

    def __init__(self, key: str, workflow_id: str, differences: tuple[str, ...]) -> None:
        self.key = key
        self.workflow_id = workflow_id
        self.differences = differences
        super().__init__(key, workflow_id, differences)

    def __str__(self) -> str:
        return (
            f"Key {self.key} was used for workflow {self.workflow_id} with {', '.join(self.differences)}; "
            "expected the same prompt and parameters, or another key."
        )


def start_run(
    plan: Plan,
    *,
    prompt: str,
    params: Mapping[str, Any],
    pool_id: str,
    key: str | None = None,
    workflow_id: str | None = None,
    release: str = "",
    at: datetime | None = None,
) -> Workflow:
    """Store a running workflow with all its stages, and queue its first step. Create its pool if it does not exist.

    If this definition was started with the same key before, change nothing and return the existing workflow. An empty
    key is none. With a `release`, only workers of that release run it.

    Raises:
        InvalidIdentifier, InvalidArgument, AlreadyExists
        KeyConflict: if the prompt or the parameters of the existing workflow differ.
        PoolNotAccepting: if the pool is draining or closed.
        PoolNotFound: if the pool is removed at this moment.
    """
    at = validation.timestamp(at)
    workflow = Workflow(
        adapter=validation.text("adapter", plan.adapter, max_length=MAX_ADAPTER_LENGTH, may_be_empty=False),
        prompt=validation.text("prompt", prompt),
        params=validation.json_object("params", params),
        pool_id=validation.identifier("pool_id", pool_id),
        plan=validation.json_object("plan", plan.to_json()),
        key="" if key is None or key == "" else _stored_key(plan.name, key),
        release=validation.text("release", release, max_length=MAX_RELEASE_LENGTH),
        total_stages=len(plan.stages),
        created_at=at,
        updated_at=at,
    )
    if (existing := _started_before(workflow, key)) is not None:
        return existing
    if workflow_id is not None:
        workflow.id = validation.identifier("workflow_id", workflow_id)
    validation.stage_names("stages", [stage.name for stage in plan.stages])
    if (status := ensure_pool(pool_id, at=at)) != PoolStatus.ACTIVE:
        raise PoolNotAccepting(pool_id, status, NEW_WORKFLOWS)
    # Built before the transaction: on SQLite no other process can write while it is open.
    stages = [_new_stage(workflow, stage_plan, position) for position, stage_plan in enumerate(plan.stages)]
    try:
        with reject_removed_pool(pool_id), reject_closed_pool(NEW_WORKFLOWS), transaction.atomic():
            _store(workflow, stages, at=at)
    except row_locks.AlreadyExists:
        # A concurrent start with the same key may have committed first.
        if (existing := _started_before(workflow, key)) is not None:
            return existing
        raise
    return workflow


def retry_run(*, workflow_id: str, from_stage: str | None = None, at: datetime | None = None) -> Workflow:
    """Run the uncompleted stages of a finished workflow again; with `from_stage`, also that stage and all later steps.

    Attempt numbers continue, so the report of a worker that still runs an old attempt is rejected. Each stage again has
    as many attempts as its plan allows. If the workflow was moved, all of them run in its new pool.

    Raises:
        InvalidIdentifier, WorkflowNotFound, StageNotFound
        IllegalTransition: if it is not finished, or if it completed and no stage is named.
        InvalidArgument: if the engine does not run it.
        PoolNotAccepting: if its pool is closed.
    """
    at = validation.timestamp(at)
    with reject_closed_pool("stages"), transaction.atomic():
        workflow = row_locks.lock_workflow(workflow_id)
        if workflow.plan is None:
            raise validation.InvalidArgument("workflow_id", workflow_id, "a workflow that the engine runs")
        _check_may_retry(workflow, from_stage)
        if workflow.pool is not None and workflow.pool.status == PoolStatus.CLOSED:
            raise PoolNotAccepting(workflow.pool.pk, PoolStatus.CLOSED, "stages")
        stages = list(workflow.stages.select_for_update(no_key=True).order_by("pk").only(*_READ_TO_RERUN))
        _reset_stages(_stages_to_rerun(workflow, stages, from_stage), pool_id=workflow.pool_id)
        workflow.status = WorkflowStatus.RUNNING.value
        workflow.error = ""
        workflow.result = None
        workflow.deadline_at = _deadline(workflow)
        workflow.stages_completed = sum(stage.status == StageStatus.COMPLETED for stage in stages)
        workflow.save_locked(at=at, update_fields=["status", "error", "result", "deadline_at", "stages_completed"])
        queue_step(advance(workflow, at=at), at=at)
    return workflow


def _check_may_retry(workflow: Workflow, from_stage: str | None) -> None:
    if workflow.status not in FINISHED_WORKFLOW_STATUSES:
        rule = "only a finished workflow can be retried"
    elif workflow.status == WorkflowStatus.COMPLETED and from_stage is None:
        rule = "name the stage to repeat from"
    else:
        return
    raise IllegalTransition("workflow", workflow.pk, workflow.status, WorkflowStatus.RUNNING, rule)


def _store(workflow: Workflow, stages: list[Stage], *, at: datetime) -> None:
    first = min(stage.step for stage in stages if not stage.hosted)
    waiting = [stage for stage in stages if stage.step == first and not stage.hosted]
    delta = PoolCounterDelta()
    room = new_window_room(workflow.pool_id or "", stages=len(waiting))
    set_queued(waiting, delta, at=at, room=room)
    # Insert the stages first: receivers of `workflow_created` need them. Foreign keys are checked at the commit.
    try:
        Stage.objects.bulk_create(stages)
    except IntegrityError as error:
        raise row_locks.AlreadyExists("workflow", workflow.id) from error
    workflow.status = WorkflowStatus.RUNNING.value
    workflow.started_at = at
    workflow.deadline_at = _deadline(workflow)
    workflow.has_undispatched_stages = len(waiting) > room
    row_locks.insert(workflow, at=at)
    delta.write(at=at, using="default")
    dispatch_after_commit([message_for(stage) for stage in waiting[:room]])


def _new_stage(workflow: Workflow, stage_plan: StagePlan, position: int) -> Stage:
    return Stage(
        workflow=workflow,
        name=stage_plan.name,
        position=position,
        # A hosted stage takes no slot of the pool, so the pool does not count it.
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
        raise row_locks.StageNotFound(workflow.pk, from_stage)
    return [
        stage for stage in stages if stage == named or stage.step > named.step or stage.status != StageStatus.COMPLETED
    ]


def _reset_stages(stages: list[Stage], *, pool_id: str | None) -> None:
    """Make finished stages of a workflow pending again, with a number of statements for `_RESET_AT_ONCE` stages."""
    # Pool counters stay: a finished workflow has no queued or running stage, and totals never go down.
    groups: dict[tuple[bool, int], list[int]] = {}
    for stage in stages:
        stage.status = StageStatus.PENDING.value
        groups.setdefault((stage.hosted, stage.stage_plan.retries.max_attempts), []).append(stage.pk)
    for (hosted, max_attempts), pks in groups.items():
        for first in range(0, len(pks), _RESET_AT_ONCE):
            Stage.objects.filter(pk__in=pks[first : first + _RESET_AT_ONCE]).update(
                **_UNSTARTED,
                pool_id=None if hosted else pool_id,
                last_attempt=F("attempt") + max_attempts,
            )


def _deadline(workflow: Workflow) -> datetime | None:
    seconds = (workflow.plan or {}).get("timeout_seconds")
    return None if seconds is None else database_now() + timedelta(seconds=seconds)


def _started_before(workflow: Workflow, key: str | None) -> Workflow | None:
    """Return the stored workflow with the key of this new one, if any.

    Args:
        workflow: The new workflow, which is not stored.
        key: The key as the caller gave it.

    Raises:
        KeyConflict: if it was started with another prompt or other parameters.
    """
    existing = Workflow.objects.filter(key=workflow.key).first() if workflow.key else None
    if existing is not None and (differences := tuple(_differences(existing, workflow))):
        raise KeyConflict(str(key), existing.pk, differences)
    return existing


def _differences(existing: Workflow, workflow: Workflow) -> Iterator[str]:
    if existing.prompt != workflow.prompt:
        yield f"prompt={reprlib.repr(existing.prompt)}"
    for name in sorted(existing.params.keys() | workflow.params.keys()):
        if name not in existing.params:
            yield f"no {name}"
        elif name not in workflow.params or existing.params[name] != workflow.params[name]:
            yield f"{name}={reprlib.repr(existing.params[name])}"


def _stored_key(name: str, key: str) -> str:
    # The first colon ends the name: `a` with the key `b:c` is not `a:b` with the key `c`.
    escaped_name = name.replace("%", "%25").replace(":", "%3A")
    return validation.text("key", f"{escaped_name}:{key}", max_length=MAX_KEY_LENGTH)
