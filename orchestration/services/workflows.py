"""Create, start, complete, fail, cancel and time out workflows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from django.db import IntegrityError, transaction

from orchestration.db.clock import milliseconds_between
from orchestration.models import Stage, Workflow, WorkflowStatus
from orchestration.models.workflow import MAX_ADAPTER_LENGTH, MAX_WORKFLOW_NAME_LENGTH, TIMEOUT_ERROR
from orchestration.services import row_locks, validation
from orchestration.services.pools import check_pool_accepts_workflows, reject_removed_pool
from orchestration.services.transitions import check_transition


def create_workflow(
    *,
    adapter: str,
    prompt: str,
    stages: Sequence[str],
    name: str = "",
    workflow_id: str | None = None,
    pool_id: str | None = None,
    params: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> Workflow:
    """Store a pending workflow and its pending stages, in the given order.

    Raises:
        InvalidIdentifier, InvalidArgument, AlreadyExists, PoolNotFound
        PoolNotAccepting: if the pool is draining or closed.
    """
    at = validation.timestamp(at)
    workflow = new_workflow(
        adapter=adapter,
        prompt=prompt,
        stages=validation.stage_names("stages", stages),
        name=name,
        workflow_id=workflow_id,
        pool_id=pool_id,
        params=params,
        at=at,
    )
    with reject_removed_pool(pool_id), transaction.atomic():
        if pool_id is not None:
            check_pool_accepts_workflows(pool_id)
        # Insert the stages first: receivers of `workflow_created` need them. Foreign keys are checked at the commit.
        try:
            Stage.objects.bulk_create(workflow.new_stages or ())
        except IntegrityError as error:
            raise row_locks.AlreadyExists("workflow", workflow.id) from error
        row_locks.insert(workflow, at=at)
    return workflow


def new_workflow(
    *,
    adapter: str,
    prompt: str,
    stages: Sequence[str],
    name: str,
    workflow_id: str | None,
    pool_id: str | None,
    params: Mapping[str, Any] | None,
    at: datetime,
) -> Workflow:
    """Return a pending workflow with its stages in `new_stages`, which are not stored. Their names are valid.

    Raises:
        InvalidIdentifier, InvalidArgument
    """
    workflow = Workflow(
        name=validation.text("name", name, max_length=MAX_WORKFLOW_NAME_LENGTH),
        adapter=validation.text("adapter", adapter, max_length=MAX_ADAPTER_LENGTH, may_be_empty=False),
        prompt=validation.text("prompt", prompt),
        params=validation.json_object("params", params),
        pool_id=pool_id,
        total_stages=len(stages),
        created_at=at,
        updated_at=at,
    )
    if workflow_id is not None:
        workflow.id = validation.identifier("workflow_id", workflow_id)
    workflow.new_stages = [
        Stage(workflow=workflow, name=stage_name, position=position, pool_id=pool_id)
        for position, stage_name in enumerate(stages)
    ]
    return workflow


def start_workflow(*, workflow_id: str, at: datetime | None = None) -> Workflow:
    """Start a pending workflow.

    Raises:
        WorkflowNotFound, IllegalTransition
    """
    return _change(workflow_id, WorkflowStatus.RUNNING, at=at)


def complete_workflow(
    *, workflow_id: str, result: Mapping[str, Any] | None = None, at: datetime | None = None
) -> Workflow:
    """Complete a running workflow. Its unfinished stages are skipped.

    If the result has no `total_duration_ms`, it is added: the milliseconds since the start.

    Raises:
        InvalidArgument, WorkflowNotFound, IllegalTransition
    """
    return _change(workflow_id, WorkflowStatus.COMPLETED, at=at, result=validation.json_object("result", result))


def fail_workflow(*, workflow_id: str, error: str, at: datetime | None = None) -> Workflow:
    """Fail a workflow. Its unfinished stages are cancelled.

    Raises:
        InvalidArgument, WorkflowNotFound, IllegalTransition
    """
    return _change(workflow_id, WorkflowStatus.FAILED, at=at, error=validation.text("error", error))


def cancel_workflow(*, workflow_id: str, reason: str = "", at: datetime | None = None) -> Workflow:
    """Cancel a workflow; the reason becomes its error. Its unfinished stages are cancelled.

    Raises:
        InvalidArgument, WorkflowNotFound, IllegalTransition
    """
    return _change(workflow_id, WorkflowStatus.CANCELLED, at=at, error=validation.text("reason", reason))


def time_out_workflow(*, workflow_id: str, error: str = TIMEOUT_ERROR, at: datetime | None = None) -> Workflow:
    """Time out a workflow. Its unfinished stages are cancelled.

    Raises:
        InvalidArgument, WorkflowNotFound, IllegalTransition
    """
    return _change(workflow_id, WorkflowStatus.TIMEOUT, at=at, error=validation.text("error", error))


def _change(
    workflow_id: str,
    status: WorkflowStatus,
    *,
    at: datetime | None,
    error: str = "",
    result: dict[str, Any] | None = None,
) -> Workflow:
    at = validation.timestamp(at)
    with transaction.atomic():
        workflow = row_locks.lock_workflow(workflow_id)
        change_locked_workflow(workflow, status, at=at, error=error, result=result)
    return workflow


def change_locked_workflow(
    workflow: Workflow, status: WorkflowStatus, *, at: datetime, error: str = "", result: dict[str, Any] | None = None
) -> None:
    """Change the status of a locked workflow.

    Raises:
        IllegalTransition
    """
    check_transition("workflow", workflow.pk, current=workflow.status, requested=status)
    workflow.status = status.value
    workflow.error = error
    if result is not None and workflow.started_at is not None:
        workflow.result = {"total_duration_ms": milliseconds_between(workflow.started_at, at)} | result
    workflow.save_locked(at=at, update_fields=["status", "error", "result"])
