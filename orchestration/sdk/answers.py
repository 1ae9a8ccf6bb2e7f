"""Answer what a run asks, and send it signals: compare the answer with its form, and store it."""

from __future__ import annotations

from typing import Any, Final

from orchestration import services
from orchestration.models import Stage, StageStatus, Wait, Workflow
from orchestration.plan import WaitPlan
from orchestration.sdk.form import checked_answer

_BEFORE_WAIT: Final = (StageStatus.PENDING, StageStatus.QUEUED, StageStatus.RUNNING)


def convert_answer(workflow_id: str, name: str, answer: Any, *, wait_id: int | None = None) -> Any:
    """Return an answer as it is stored, if the run asks for it now or will.

    Args:
        workflow_id: The run.
        name: The name of the wait.
        answer: The answer.
        wait_id: The primary key of the wait, if it may be no other one of this name.

    Raises:
        orchestration.services.WorkflowNotFound, orchestration.services.WaitNotFound
        orchestration.services.InvalidAnswer: if it does not fit its form.
    """
    # A stage that asks inside of its function has no plan of it.
    asked = Wait.objects.find_question(workflow_id, name, wait_id=wait_id)
    if asked is not None:
        return checked_answer(WaitPlan(kind="ask", name=name, form=asked.form), answer)
    if wait_id is not None:
        return answer  # `services.answer_wait` refuses it: the question is outdated.
    stage = Stage.objects.filter(workflow_id=workflow_id, name=name).only("plan").first()
    if stage is None or stage.plan is None or stage.stage_plan.wait is None or stage.stage_plan.wait.kind != "ask":
        if not Workflow.objects.filter(pk=workflow_id).exists():
            raise services.WorkflowNotFound(workflow_id)
        raise services.WaitNotFound(workflow_id, name)
    return checked_answer(stage.stage_plan.wait, answer)


def convert_payload(workflow_id: str, name: str, payload: Any) -> Any:
    """Return what a signal contains as it is stored, compared with the form of the stage that waits for it or will.

    That a stage calls `ctx.wait_for` later is not known before: the stage compares the signal itself then.

    Raises:
        orchestration.services.InvalidAnswer: if it does not fit.
    """
    taker = Wait.objects.find_signal_taker(workflow_id, name)
    form = None if taker is None else taker.form
    if form is None:
        planned = Stage.objects.filter(workflow_id=workflow_id, plan__wait__kind="signal", plan__wait__name=name)
        planned = planned.filter(status__in=_BEFORE_WAIT).order_by("step", "position")
        form = planned.values_list("plan__wait__form", flat=True).first()
    return checked_answer(WaitPlan(kind="signal", name=name, form=form or ""), payload)


def answer(workflow_id: str, name: str, value: Any, *, by: str = "", wait_id: int | None = None) -> Workflow:
    """Answer what a run asks; `orchestration.services.answer_wait` describes the arguments and the errors."""
    converted = convert_answer(workflow_id, name, value, wait_id=wait_id)
    return services.answer_wait(workflow_id=workflow_id, name=name, answer=converted, by=by, wait_id=wait_id)


def send_signal(workflow_id: str, name: str, payload: Any = None, *, by: str = "") -> Workflow:
    """Send a signal to a run; `orchestration.services.send_signal` describes the arguments and the errors."""
    converted = convert_payload(workflow_id, name, payload)
    return services.send_signal(workflow_id=workflow_id, name=name, payload=converted, by=by)
