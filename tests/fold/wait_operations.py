"""What happens to stages that wait for an answer, a signal or a time."""

from __future__ import annotations

from typing import Literal

from orchestration import services
from orchestration.models import Wait, WaitKind, WaitStatus
from orchestration.plan import WaitPlan
from tests.fold.day import Day, operation
from tests.fold.run_operations import running_attempt


@operation(6)
def open_wait(day: Day) -> None:
    stage, slot = running_attempt(day)
    kind: Literal["ask", "signal", "sleep"] = day.choose(("ask", "signal", "sleep"))
    resumes = kind == "signal" and day.maybe()
    wait = WaitPlan(
        kind=kind,
        name="paid" if kind == "signal" else stage.name,
        title=day.choose(("", "Continue?")),
        schema=day.choose(({}, {"type": "object"})),
        recipients=day.choose(((), ("group:ops", "ada"))),
        timeout_seconds=day.choose((None, 20.0)) if kind != "sleep" else 20.0,
        on_timeout=day.choose((None, {"value": {"approved": False}})),
    )
    number = Wait.objects.filter(stage=stage, name=wait.name).count()
    services.open_wait(stage.pk, stage.attempt, slot=slot, wait=wait, number=number, resumes=resumes)


@operation(6)
def answer_wait(day: Day) -> None:
    wait = day.pick(Wait.objects.filter(kind=WaitKind.ASK))
    is_open = wait.status == WaitStatus.OPEN
    workflow_id, name = wait.workflow_id, wait.name
    services.answer_wait(workflow_id=workflow_id, name=name, answer={"approved": True}, by=day.choose(("", "ada")))
    assert is_open, f"wait {wait} was answered twice"
    wait.refresh_from_db()
    assert (wait.status, wait.answer) == (WaitStatus.ANSWERED, {"approved": True})


@operation(3)
def send_signal(day: Day) -> None:
    wait = day.pick(Wait.objects.filter(kind=WaitKind.SIGNAL))
    services.send_signal(workflow_id=wait.workflow_id, name="paid", payload=day.choose((None, 5)), by="shop")


@operation(2)
def expire_waits(day: Day) -> None:
    wait = day.pick(Wait.objects.filter(status=WaitStatus.OPEN, expires_at__isnull=False))
    assert wait.expires_at is not None
    services.expire_wait(wait.pk, due_before=wait.expires_at)
