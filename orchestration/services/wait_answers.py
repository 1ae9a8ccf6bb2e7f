"""Answer waits, send signals, and end the waits whose time is over. The first valid answer wins."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from django.db import transaction

from orchestration.db.clock import database_now
from orchestration.models import (
    FINISHED_WORKFLOW_STATUSES,
    EarlyAnswer,
    PoolStatus,
    Stage,
    Wait,
    WaitKind,
    WaitStatus,
    Workflow,
)
from orchestration.models.pool_counters import ClosedPoolHasWork, batched_counters
from orchestration.models.wait import MAX_ANSWERED_BY_LENGTH
from orchestration.services import validation
from orchestration.services.advance import queue_step
from orchestration.services.attempt_failures import fail_stage_of_run
from orchestration.services.pools import PoolNotAccepting, reject_closed_pool
from orchestration.services.row_locks import lock_stage_by_id, lock_workflow
from orchestration.services.wait_errors import (
    AlreadyAnswered,
    TooManyEarlyAnswers,
    WaitClosed,
    WaitExpired,
    WaitNotFound,
    WaitReplaced,
    timeout_text,
)
from orchestration.services.waits import end_wait, mark_expired

MAX_EARLY_ANSWERS: Final = 100
"""The most signals and answers that a run keeps for which no stage waits."""


def answer_wait(
    *, workflow_id: str, name: str, answer: Any, by: str = "", wait_id: int | None = None, at: datetime | None = None
) -> Workflow:
    """Answer what a stage asks. The answer, the end of the wait and the next step are one transaction.

    An answer that comes before the stage asks is kept, and used when it does.

    Args:
        workflow_id: The run.
        name: The name of the wait: that of its stage.
        answer: JSON, which the caller has compared with the form of the wait.
        by: Who answers.
        wait_id: The primary key of the wait, if no other one of this name may be answered. By default, it is the open
            one, or else the last one.
        at: The time of the change; None means now.

    Raises:
        InvalidIdentifier, InvalidArgument, WorkflowNotFound
        WaitNotFound: if the run has no stage that asks under this name.
        AlreadyAnswered
        WaitExpired: if its time is over, also if the scheduler has not ended it yet.
        WaitClosed: if the run has ended.
        WaitReplaced: if it was run again after the question `wait_id`.
        TooManyEarlyAnswers: if no stage asks yet, and the run keeps too many answers.
        PoolNotAccepting: if the next step belongs to a pool that is closed.
    """
    at = validation.timestamp(at)
    by = validation.text("by", by, max_length=MAX_ANSWERED_BY_LENGTH)
    answer = validation.json_object("answer", {"answer": answer})["answer"]
    with reject_closed_pool("stages"), transaction.atomic(), batched_counters(at=at):
        workflow = lock_workflow(workflow_id)
        wait = Wait.objects.find_question(workflow_id, name, wait_id=wait_id)
        if wait is None and wait_id is not None:
            raise WaitReplaced(workflow_id, name, workflow.status)
        if wait is None:
            _keep_early(workflow, name, answer, by=by, at=at)
            return workflow
        if wait.status == WaitStatus.ANSWERED:
            raise AlreadyAnswered(workflow_id, name, wait.answered_by, wait.answered_at)
        if wait.status == WaitStatus.EXPIRED or _is_overdue(wait):
            raise WaitExpired(workflow_id, name)
        if wait.status == WaitStatus.CLOSED:
            raise WaitClosed(workflow_id, name, workflow.status)
        _end(wait, answer, by=by, at=at)
        workflow.refresh_from_db()
    return workflow


def send_signal(*, workflow_id: str, name: str, payload: Any, by: str = "", at: datetime | None = None) -> Workflow:
    """Send a signal to a run. The stage that has waited longest for the name takes it; else it is kept for the next.

    Raises:
        InvalidIdentifier, InvalidArgument, WorkflowNotFound
        WaitClosed: if the run has ended.
        TooManyEarlyAnswers: if the run keeps too many.
        PoolNotAccepting: if the next step belongs to a pool that is closed.
    """
    at = validation.timestamp(at)
    validation.identifier("name", name)
    by = validation.text("by", by, max_length=MAX_ANSWERED_BY_LENGTH)
    payload = validation.json_object("payload", {"payload": payload})["payload"]
    with reject_closed_pool("stages"), transaction.atomic(), batched_counters(at=at):
        workflow = lock_workflow(workflow_id)
        _check_running(workflow, name)
        wait = Wait.objects.find_signal_taker(workflow_id, name)
        if wait is None:
            _store_early(workflow, WaitKind.SIGNAL, name, payload, by=by, at=at)
            return workflow
        _end(wait, payload, by=by, at=at)
        workflow.refresh_from_db()
    return workflow


def expire_wait(wait_id: int, *, due_before: datetime, at: datetime | None = None) -> bool:
    """End a wait whose time was over before this database time. Return False if it is not.

    A stage that sleeps is completed; one that asks has the answer that was given for this case or, without one, fails.
    A stage that waits inside of its function begins again.
    """
    at = validation.timestamp(at)
    try:
        return _expire(wait_id, due_before=due_before, at=at)
    except ClosedPoolHasWork as error:
        # What follows cannot be queued.
        closed = str(PoolNotAccepting(error.pool_id, PoolStatus.CLOSED, "stages"))
        return _expire(wait_id, due_before=due_before, at=at, failure=closed)


def _expire(wait_id: int, *, due_before: datetime, at: datetime, failure: str = "") -> bool:
    """End a wait whose time was over. `failure` is why its stage fails; empty if it does not, or only for its time."""
    stage_id = Wait.objects.filter(pk=wait_id).values_list("stage_id", flat=True).first()
    with transaction.atomic(), batched_counters(at=at):
        stage = None if stage_id is None else lock_stage_by_id(stage_id)
        wait = Wait.objects.open().filter(pk=wait_id, due_at__lte=due_before).first()
        if stage is None or wait is None:
            return False
        if failure:
            mark_expired(stage, wait, at=at)
            fail_stage_of_run(stage, error=failure, at=at)
        elif wait.on_timeout is None and wait.kind != WaitKind.SLEEP and not wait.resumes:
            mark_expired(stage, wait, at=at)
            fail_stage_of_run(stage, error=_timed_out(stage, wait), at=at)
        else:
            answer = None if wait.on_timeout is None else wait.on_timeout["value"]
            queue_step(end_wait(stage, wait, answer, by="", at=at, is_expired=True), at=at)
    return True


def _is_overdue(wait: Wait) -> bool:
    return wait.due_at is not None and wait.due_at <= database_now()


def _timed_out(stage: Stage, wait: Wait) -> str:
    plan = stage.stage_plan.wait
    return timeout_text(wait.kind, wait.name, None if plan is None else plan.timeout_seconds)


def _end(wait: Wait, answer: Any, *, by: str, at: datetime) -> None:
    stage = lock_stage_by_id(wait.stage_id)
    assert stage is not None, f"wait {wait} has no stage"
    queue_step(end_wait(stage, wait, answer, by=by, at=at), at=at)


def _check_running(workflow: Workflow, name: str) -> None:
    if workflow.status in FINISHED_WORKFLOW_STATUSES:
        raise WaitClosed(workflow.pk, name, workflow.status)


def _keep_early(workflow: Workflow, name: str, answer: Any, *, by: str, at: datetime) -> None:
    """Keep the answer of a stage that does not ask yet."""
    stage = Stage.objects.filter(workflow=workflow, name=name).first()
    if stage is None or stage.plan is None or stage.stage_plan.wait is None:
        raise WaitNotFound(workflow.pk, name)
    _check_running(workflow, name)
    kept = EarlyAnswer.objects.filter(workflow=workflow, kind=WaitKind.ASK, name=name).first()
    if kept is not None:
        raise AlreadyAnswered(workflow.pk, name, kept.answered_by, kept.answered_at)
    _store_early(workflow, WaitKind.ASK, name, answer, by=by, at=at)


def _store_early(workflow: Workflow, kind: WaitKind, name: str, answer: Any, *, by: str, at: datetime) -> None:
    if EarlyAnswer.objects.filter(workflow=workflow).count() >= MAX_EARLY_ANSWERS:
        raise TooManyEarlyAnswers(workflow.pk, MAX_EARLY_ANSWERS)
    EarlyAnswer.objects.create(workflow=workflow, kind=kind, name=name, answer=answer, answered_by=by, answered_at=at)
