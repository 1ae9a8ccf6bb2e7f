"""Claims that a worker must not make: it drains, or lacks the code."""

from __future__ import annotations

import pytest

from orchestration import services
from orchestration.models import Stage, Worker
from orchestration.plan import Plan, StagePlan
from tests.models.counter_audit import assert_all_add_up
from tests.services.one_stage_runs import join

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

PLAN = Plan(name="refused", adapter="python", stages=tuple(StagePlan(name=f"s{step}", step=step) for step in range(2)))


def start(workflow_id: str) -> Stage:
    services.start_run(PLAN, prompt="", params={}, pool_id="pool", workflow_id=workflow_id)
    return Stage.objects.get(workflow_id=workflow_id, name="s0")


@pytest.fixture
def slot() -> services.Slot:
    return join("box")


def test_draining_worker_does_not_continue_with_the_next_stage(slot: services.Slot) -> None:
    stage = start("wf")
    assert services.claim_stage(stage.pk, 1, slot=slot) is not None
    services.drain_worker(worker_id="box-1")
    outcome = services.complete_attempt(stage.pk, 1, slot=slot, output=None, continue_inline=services.nothing_missing)
    assert outcome.accepted
    assert outcome.next is None
    assert Worker.objects.get().status == "idle"
    assert Stage.objects.get(name="s1").status == "queued"
    assert_all_add_up()


def test_worker_that_lost_an_attempt_is_in_error_after_it_refused_another(slot: services.Slot) -> None:
    assert services.claim_stage(start("lost").pk, 1, slot=slot) is not None
    with pytest.raises(services.StageNotRunnable):
        services.claim_stage(
            start("other").pk, 1, slot=slot, find_missing=lambda stage: services.Requirement("shop:load")
        )
    worker = Worker.objects.get()
    assert (worker.status, worker.stage_id) == ("error", None)
    assert Stage.objects.get(workflow_id="lost", name="s0").lost_attempts == 1
    assert_all_add_up()


def test_worker_of_the_engine_cannot_be_registered_by_others(slot: services.Slot) -> None:
    assert services.claim_stage(start("wf").pk, 1, slot=slot) is not None
    with pytest.raises(services.EngineWorker):
        services.register_worker(worker_id="box-1", pool_id="pool")
    assert Worker.objects.get().status == "busy"
