"""Waits of stages: who answers which, where the stage continues, and what a retry keeps of them."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.models import EarlyAnswer, Pool, Stage, StageMap, Wait
from orchestration.plan import Each, Plan, StagePlan, WaitPlan
from orchestration.sdk import Run
from orchestration.services import Claim
from tests.services.broker_worker import BrokerWorker, take_messages

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

GO = WaitPlan(kind="signal", name="go")
GATED_ITEMS = Plan(
    name="gated",
    adapter="python",
    stages=(StagePlan(name="values", step=0), StagePlan(name="gate", step=1, each=Each(of="values"))),
)


@pytest.fixture(autouse=True)
def empty_queues() -> None:
    for pool_id in ("cpu", "gpu"):
        take_messages(pool_id, at_most=1000)


def wait_inside(worker: BrokerWorker, claim: Claim) -> None:
    """Let the claimed stage wait in its function."""
    outcome = services.open_wait(claim.stage.pk, claim.attempt, slot=worker.slot, wait=GO, resumes=True)
    assert outcome.accepted


def taken(worker: BrokerWorker) -> Claim:
    claim = worker.take()
    assert claim is not None
    return claim


def start_gated_items() -> tuple[BrokerWorker, Claim]:
    """Start a run whose two items wait in turn, and return the claim of the first."""
    worker = BrokerWorker(pool_id="cpu")
    services.start_run(GATED_ITEMS, prompt="", params={}, pool_id="cpu", workflow_id="wf")
    values = taken(worker)
    services.complete_attempt(values.stage.pk, values.attempt, slot=worker.slot, output=["x", "y"])
    gate = taken(worker)
    assert services.start_map(gate.stage.pk, gate.attempt, slot=worker.slot, values=["x", "y"]).accepted
    item = taken(worker)
    assert item.stage.item_of_id == gate.stage.pk
    return worker, item


def found(claim: Claim) -> services.EndedWait | None:
    return services.find_ended_wait(claim.stage.pk, claim.attempt, wait=GO, number=0)


def test_stage_with_its_own_pool_continues_there() -> None:
    services.create_pool(pool_id="cpu")
    worker = BrokerWorker(pool_id="gpu")
    plan = Plan(name="trains", adapter="python", stages=(StagePlan(name="train", step=0, pool="gpu"),))
    services.start_run(plan, prompt="", params={}, pool_id="cpu", workflow_id="wf")
    wait_inside(worker, taken(worker))
    services.send_signal(workflow_id="wf", name="go", payload=1)
    assert Stage.objects.get().pool_id == "gpu"
    assert take_messages("cpu", at_most=10) == []
    claim = taken(worker)
    assert found(claim) == services.EndedWait(answer=1, is_expired=False)


def test_wait_in_a_closed_own_pool_ends_with_the_reason() -> None:
    services.create_pool(pool_id="cpu")
    worker = BrokerWorker(pool_id="gpu")
    plan = Plan(name="trains", adapter="python", stages=(StagePlan(name="train", step=0, pool="gpu"),))
    services.start_run(plan, prompt="", params={}, pool_id="cpu", workflow_id="wf")
    wait = WaitPlan(kind="signal", name="go", timeout_seconds=0.001)
    claim = taken(worker)
    services.open_wait(claim.stage.pk, claim.attempt, slot=worker.slot, wait=wait, resumes=True)
    with pytest.raises(services.PoolNotEmpty):
        services.close_pool(pool_id="gpu")
    Pool.objects.filter(pk="gpu").update(status="closed")
    opened = Wait.objects.get()
    assert opened.expires_at is not None
    assert services.expire_wait(opened.pk, due_before=opened.expires_at)
    stage = Stage.objects.get()
    assert (stage.status, "gpu is closed" in stage.error) == ("failed", True), stage.error


def test_item_waits_again_after_a_retry_of_its_run() -> None:
    worker, claim = start_gated_items()
    wait_inside(worker, claim)
    services.cancel_workflow(workflow_id="wf")
    assert Wait.objects.get().status == "closed"
    take_messages("cpu", at_most=10)
    services.retry_run(workflow_id="wf")
    again = taken(worker)
    assert again.stage.pk == claim.stage.pk
    assert found(again) is None, "no signal has come"
    wait_inside(worker, again)
    assert Wait.objects.get().status == "open"


def test_item_keeps_the_signal_that_it_got_before_a_retry_of_its_run() -> None:
    worker, claim = start_gated_items()
    wait_inside(worker, claim)
    services.send_signal(workflow_id="wf", name="go", payload="now")
    services.cancel_workflow(workflow_id="wf")
    take_messages("cpu", at_most=10)
    services.retry_run(workflow_id="wf")
    assert found(taken(worker)) == services.EndedWait(answer="now", is_expired=False)


ASK = WaitPlan(kind="ask", name="approve", form="builtins:str")
TWO = Plan(name="two", adapter="python", stages=(StagePlan(name="a", step=0), StagePlan(name="b", step=0)))


def ask_inside(worker: BrokerWorker, claim: Claim, wait: WaitPlan = ASK) -> Wait:
    outcome = services.open_wait(claim.stage.pk, claim.attempt, slot=worker.slot, wait=wait, resumes=True)
    assert outcome.accepted
    return Wait.objects.get(stage=claim.stage.pk, status="open")


def start_two() -> tuple[BrokerWorker, Claim, Claim]:
    """Start a run of two parallel stages, and claim both."""
    worker = BrokerWorker(pool_id="cpu")
    services.start_run(TWO, prompt="", params={}, pool_id="cpu", workflow_id="wf")
    return worker, taken(worker), taken(BrokerWorker(pool_id="cpu", name="other"))


def test_second_open_question_of_one_name_is_refused() -> None:
    worker, first, second = start_two()
    asked = ask_inside(worker, first)
    with pytest.raises(services.NameAwaited, match="Question name approve is in use by stage a of this workflow"):
        services.open_wait(second.stage.pk, second.attempt, slot=worker.slot, wait=ASK, resumes=True)
    services.answer_wait(workflow_id="wf", name="approve", answer="yes")
    asked.refresh_from_db()
    assert (asked.status, asked.answer) == ("answered", "yes")


def test_answer_without_a_wait_id_is_for_the_open_question() -> None:
    worker, first, second = start_two()
    older = ask_inside(worker, first)
    services.answer_wait(workflow_id="wf", name="approve", answer="one")
    newer = ask_inside(worker, second)
    Wait.objects.filter(pk=older.pk).update(status="open", answered_at=None)
    Wait.objects.filter(pk=newer.pk).update(status="closed")
    found = Wait.objects.find_question("wf", "approve")
    assert found is not None
    assert found.pk == older.pk


def test_answer_to_a_question_before_a_retry_is_refused() -> None:
    worker, first, _ = start_two()
    outdated = ask_inside(worker, first)
    services.cancel_workflow(workflow_id="wf")
    take_messages("cpu", at_most=10)
    services.retry_run(workflow_id="wf")
    again = ask_inside(worker, taken(worker))
    with pytest.raises(services.WaitReplaced, match="approve of workflow wf is outdated"):
        services.answer_wait(workflow_id="wf", name="approve", answer="old", wait_id=outdated.pk)
    services.answer_wait(workflow_id="wf", name="approve", answer="new", wait_id=again.pk)
    again.refresh_from_db()
    assert again.answer == "new"


def start_one(wait: WaitPlan) -> tuple[BrokerWorker, Claim]:
    """Start a run of one stage that only waits, and claim the stage."""
    worker = BrokerWorker(pool_id="cpu")
    plan = Plan(name="waits", adapter="python", stages=(StagePlan(name="pause", step=0, wait=wait),))
    services.start_run(plan, prompt="", params={}, pool_id="cpu", workflow_id="wf")
    return worker, taken(worker)


def test_last_wait_of_a_run_ends_in_a_closed_pool() -> None:
    nap = WaitPlan(kind="sleep", name="pause", timeout_seconds=60)
    worker, claim = start_one(nap)
    services.open_wait(claim.stage.pk, claim.attempt, slot=worker.slot, wait=nap)
    services.close_pool(pool_id="cpu")
    opened = Wait.objects.get()
    assert opened.expires_at is not None
    assert services.expire_wait(opened.pk, due_before=opened.expires_at)
    assert Stage.objects.get().status == "completed"


def test_pool_of_a_map_with_more_items_is_not_closed() -> None:
    _, item = start_gated_items()
    items = Stage.objects.filter(item_of=item.stage.item_of_id)
    items.update(status="completed", finished_at=database_now())
    Pool.objects.filter(pk="cpu").update(queue_size=0, tasks_running=0)
    StageMap.objects.update(stored=1)
    with pytest.raises(services.PoolNotEmpty) as error:
        services.close_pool(pool_id="cpu")
    assert error.value.waiting == 1


def test_pool_that_a_waiting_run_has_left_is_closed_and_not_the_one_to_which_it_returns() -> None:
    worker, claim = start_one(GO)
    wait_inside(worker, claim)
    services.create_pool(pool_id="gpu")
    services.reassign_workflows(pool_id="cpu", to_pool_id="gpu")
    services.close_pool(pool_id="cpu")
    with pytest.raises(services.PoolNotEmpty) as error:
        services.close_pool(pool_id="gpu")
    assert error.value.waiting == 1


def test_answer_after_the_time_limit_is_refused_before_the_scheduler_ends_the_wait() -> None:
    question = WaitPlan(kind="ask", name="pause", form="builtins:str", timeout_seconds=60)
    worker, claim = start_one(question)
    services.open_wait(claim.stage.pk, claim.attempt, slot=worker.slot, wait=question)
    Wait.objects.update(due_at=database_now() - timedelta(seconds=1))
    with pytest.raises(services.WaitExpired):
        services.answer_wait(workflow_id="wf", name="pause", answer="late")
    assert Wait.objects.get().status == "open"


def test_run_is_answered_on_an_event_loop() -> None:
    question = WaitPlan(kind="ask", name="pause", form="builtins:str")
    worker, claim = start_one(question)
    services.open_wait(claim.stage.pk, claim.attempt, slot=worker.slot, wait=question)

    async def answer() -> str:
        run = Run("wf")
        link = await run.aanswer_link("pause", by="ada")
        await run.asignal("paid", {"amount": 3})
        await run.aanswer("pause", "yes", by="ada", wait_id=(await Wait.objects.aget()).pk)
        return link

    link = asyncio.run(answer())
    asyncio.run(sync_to_async(connections.close_all)())
    wait = Wait.objects.get()
    assert (wait.status, wait.answer, wait.answered_by) == ("answered", "yes", "ada")
    assert (EarlyAnswer.objects.get().answer, link.startswith("/api/v1/waits/")) == ({"amount": 3}, True)


def test_signal_after_the_time_limit_is_kept_for_the_next_wait() -> None:
    worker, claim = start_one(GO)
    wait_inside(worker, claim)
    Wait.objects.update(due_at=database_now() - timedelta(seconds=1))
    services.send_signal(workflow_id="wf", name="go", payload="late")
    assert (Wait.objects.get().status, EarlyAnswer.objects.get().answer) == ("open", "late")


def test_signal_is_compared_with_the_form_of_the_stage_that_takes_it() -> None:
    worker, first, second = start_two()
    overdue = ask_inside(worker, first, WaitPlan(kind="signal", name="go", form="builtins:int", timeout_seconds=60))
    taker = ask_inside(worker, second, WaitPlan(kind="signal", name="go", form="builtins:str"))
    Wait.objects.filter(pk=overdue.pk).update(due_at=database_now())
    Run("wf").signal("go", "a text")
    waits = Wait.objects.order_by("pk").values_list("pk", "status", "answer")
    assert list(waits) == [(overdue.pk, "open", None), (taker.pk, "answered", "a text")]


def test_answer_and_signal_of_one_name_are_two_waits() -> None:
    worker, claim = start_one(GO)
    question = WaitPlan(kind="ask", name="go", form="builtins:str")
    ask_inside(worker, claim, question)
    services.answer_wait(workflow_id="wf", name="go", answer="no")
    again = taken(worker)
    assert found(again) is None, "no signal has come"
