"""Open waits of stages, and end them. A stage that waits holds no slot. All changes hold the lock of the workflow."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import Q

from orchestration import signals
from orchestration.db.clock import database_now
from orchestration.models import EarlyAnswer, Stage, StageMap, StageStatus, Wait, WaitKind, WaitStatus
from orchestration.plan import WaitPlan
from orchestration.services.advance import NextStep, complete_stage_of_run
from orchestration.services.map_items import ITEM_STATUSES_TO_RESET, step_behind
from orchestration.services.planned_stages import pool_of
from orchestration.services.wait_errors import NameAwaited

_DELETED_AT_ONCE: Final = 500
_ANSWERED_INSIDE: Final = Q(resumes=True, status=WaitStatus.ANSWERED)
"""What a stage got while its function ran."""


def start_wait(stage: Stage, wait_plan: WaitPlan, *, number: int, resumes: bool, at: datetime) -> NextStep:
    """Let a running stage wait. If an answer is there already, end the wait at once, and return what follows.

    Args:
        stage: The stage, locked with its workflow.
        wait_plan: What it waits for, with the title as people see it.
        number: How often the stage has waited for this name before.
        resumes: Whether the stage begins again at the end of the wait.
        at: The time of the change.

    Raises:
        NameAwaited: if it asks under a name under which another stage of the run asks now.
    """
    wait = new_wait(stage, wait_plan, number=number, resumes=resumes, at=at)
    if wait.kind == WaitKind.ASK:
        same = Wait.objects.open_questions().filter(workflow=stage.workflow_id, name=wait.name)
        if (asking := same.values_list("stage__name", flat=True).first()) is not None:
            raise NameAwaited(wait.name, asking)
    wait.save()
    stage.status = StageStatus.WAITING.value
    stage.announces_wait = True
    if resumes:
        stage.last_attempt += 1
    stage.save_locked(at=at, update_fields=["status", "last_attempt"])
    signals.wait_opened.send(sender=Stage, stage=stage, wait=wait, at=at)
    early = take_early_answer(wait)
    if early is None:
        return NextStep(stage.workflow, [])
    stage.mark_locked()
    return end_wait(stage, wait, early.answer, by=early.answered_by, at=at)


def new_wait(stage: Stage, wait_plan: WaitPlan, *, number: int, resumes: bool, at: datetime) -> Wait:
    """Return an open wait, which is not stored."""
    seconds = wait_plan.timeout_seconds
    expires_at = None if seconds is None else database_now() + timedelta(seconds=seconds)
    return Wait(
        workflow_id=stage.workflow_id,
        stage=stage,
        name=wait_plan.name,
        number=number,
        kind=wait_plan.kind,
        title=wait_plan.title,
        form=wait_plan.form,
        schema=dict(wait_plan.schema),
        recipients="\n".join(wait_plan.recipients),
        on_timeout=None if wait_plan.on_timeout is None else dict(wait_plan.on_timeout),
        resumes=resumes,
        opened_at=at,
        expires_at=expires_at,
        due_at=expires_at,
    )


def take_early_answer(wait: Wait) -> EarlyAnswer | None:
    """Remove the oldest answer or signal that came before this wait, and return it; None if there is none."""
    if wait.kind == WaitKind.SLEEP:
        return None
    found = EarlyAnswer.objects.filter(workflow_id=wait.workflow_id, kind=wait.kind, name=wait.name)
    early = found.order_by("pk").first()
    if early is not None:
        EarlyAnswer.objects.filter(pk=early.pk).delete()
    return early


def end_wait(stage: Stage, wait: Wait, answer: Any, *, by: str, at: datetime, is_expired: bool = False) -> NextStep:
    """End an open wait with an answer, complete its stage or let it begin again, and return what follows.

    Args:
        stage: The stage, locked with its workflow.
        wait: The wait.
        answer: JSON.
        by: Who answered; empty if that is unknown, or the time was over.
        at: The time of the change.
        is_expired: Whether its time is over, and the answer is the one for that.
    """
    _store_end(stage, wait, WaitStatus.EXPIRED if is_expired else WaitStatus.ANSWERED, answer=answer, by=by, at=at)
    if wait.resumes:
        stage.status = StageStatus.PENDING.value
        stage.pool_id = pool_of(stage.stage_plan, stage.workflow.pool_id)  # The run may have moved meanwhile.
        Stage.objects.filter(pk=stage.pk).update(status=stage.status, pool_id=stage.pool_id)
        return NextStep(stage.workflow, [stage])
    complete_stage_of_run(stage, answer, at=at)
    return step_behind(stage, at=at)


def mark_expired(stage: Stage, wait: Wait, *, at: datetime) -> None:
    """Store that the time of a wait is over. The caller fails its stage."""
    _store_end(stage, wait, WaitStatus.EXPIRED, answer=None, by="", at=at)


def _store_end(stage: Stage, wait: Wait, status: WaitStatus, *, answer: Any, by: str, at: datetime) -> None:
    wait.status, wait.answer, wait.answered_by, wait.answered_at = status.value, answer, by, at
    wait.due_at = None
    wait.save(update_fields=["status", "answer", "answered_by", "answered_at", "due_at"])
    signal = signals.wait_expired if status == WaitStatus.EXPIRED else signals.wait_answered
    signal.send(sender=Stage, stage=stage, wait=wait, at=at)


def forget_waits(rerun: Sequence[Stage], outdated: Collection[int]) -> None:
    """Delete the waits of the stages that run again, before these are reset: they are opened again.

    A stage that waited inside of its function, and is not outdated, keeps what was answered: it continues where it
    ended, as with its steps.

    Args:
        rerun: The stages.
        outdated: The primary keys of those that begin anew.
    """
    for first in range(0, len(rerun), _DELETED_AT_ONCE):
        block = [stage.pk for stage in rerun[first : first + _DELETED_AT_ONCE]]
        kept = [pk for pk in block if pk not in outdated]
        Wait.objects.filter(stage__in=block).exclude(_ANSWERED_INSIDE, stage__in=kept).delete()


def forget_waits_of_items(stage_map: StageMap) -> None:
    """Delete the waits of the items that run again, before these are reset, and keep what was answered to them."""
    waits = Wait.objects.filter(stage__item_of=stage_map.pk, stage__status__in=ITEM_STATUSES_TO_RESET)
    waits.exclude(_ANSWERED_INSIDE).delete()
