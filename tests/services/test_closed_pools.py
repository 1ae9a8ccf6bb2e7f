"""Runs of the engine and a pool that closes: an unfinished run keeps it open, and a closed pool gets no stage."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestration import services
from orchestration.models import FailedAttempt, Pool, Stage, Workflow
from orchestration.plan import Plan, Retry, StagePlan
from orchestration.services import planned_stages, run_retries
from orchestration.worker import outcome, stage_result
from tests.models.counter_audit import assert_all_add_up

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

ONE = StagePlan(name="one", step=0, retries=Retry(max_attempts=2, backoff_seconds=60))
TWO = StagePlan(name="two", step=1)


def start_attempt(*stages: StagePlan) -> tuple[int, services.Slot]:
    """Start a run and the first attempt at its first stage, and return the stage id and the slot."""
    plan = Plan(name="closing", adapter="python", stages=stages)
    services.start_run(plan, prompt="", params={}, pool_id="pool", workflow_id="wf")
    slot = services.Slot(
        worker_id=services.join_pool(name="closing", process="closing", pool_id="pool"), process="closing"
    )
    stage = Stage.objects.get(name="one")
    assert services.claim_stage(stage.pk, 1, slot=slot) is not None
    return stage.pk, slot


def test_close_pool_rejects_a_pool_with_a_pending_retry() -> None:
    stage_id, slot = start_attempt(ONE)
    services.fail_attempt(stage_id, 1, slot=slot, error="It broke")
    with pytest.raises(services.PoolNotEmpty) as error:
        services.close_pool(pool_id="pool")
    assert str(error.value) == (
        "Pool pool has 0 queued, 0 running and 1 waiting stages; it can be closed when it has none."
    )
    assert Pool.objects.get().status == "active"
    services.cancel_workflow(workflow_id="wf")
    assert services.close_pool(pool_id="pool").status == "closed"


def test_close_pool_rejects_the_pool_of_the_next_steps() -> None:
    stage_id, slot = start_attempt(ONE, TWO)
    services.create_pool(pool_id="other")
    services.reassign_workflow(workflow_id="wf", to_pool_id="other")
    with pytest.raises(services.PoolNotEmpty):
        services.close_pool(pool_id="other")
    assert services.complete_attempt(stage_id, 1, slot=slot, output=None).accepted
    assert Stage.objects.get(name="two").status == "queued"


def test_complete_attempt_rejects_a_next_step_in_a_closed_pool() -> None:
    stage_id, slot = start_attempt(ONE, TWO)
    services.create_pool(pool_id="other")
    services.reassign_workflow(workflow_id="wf", to_pool_id="other")
    # A concurrent transaction closed the pool before the workflow moved.
    Pool.objects.filter(pk="other").update(status="closed")
    with pytest.raises(services.PoolNotAccepting) as error:
        services.complete_attempt(stage_id, 1, slot=slot, output=None)
    assert str(error.value) == "Pool other is closed and accepts no stages."
    assert Stage.objects.get(name="one").status == "running"
    assert_all_add_up()


def test_worker_fails_the_run_if_the_next_step_has_a_closed_pool() -> None:
    plan = Plan(name="closing", adapter="python", stages=(ONE, TWO))
    services.start_run(plan, prompt="", params={}, pool_id="pool", workflow_id="wf")
    slot = services.Slot(
        worker_id=services.join_pool(name="closing", process="closing", pool_id="pool"), process="closing"
    )
    claim = services.claim_stage(Stage.objects.get(name="one").pk, 1, slot=slot)
    assert claim is not None
    Workflow.objects.update(pool=services.create_pool(pool_id="other"))
    Stage.objects.filter(name="two").update(pool="other")
    Pool.objects.filter(pk="other").update(status="closed")
    assert outcome.record_outcome(claim, slot, stage_result.Returned(None), continue_inline=False) is None
    workflow = Workflow.objects.get()
    reason = "Pool other is closed and accepts no stages."
    assert (workflow.status, workflow.error) == ("failed", f"The stage one failed: {reason}")
    assert_all_add_up()


def test_retry_run_queues_all_stages_in_the_pool_to_which_the_workflow_moved() -> None:
    stage_id, slot = start_attempt(ONE)
    services.create_pool(pool_id="other")
    services.reassign_workflow(workflow_id="wf", to_pool_id="other")
    services.fail_attempt(stage_id, 1, slot=slot, error="It broke", may_retry=False)
    services.close_pool(pool_id="pool")
    services.retry_run(workflow_id="wf")
    stage = Stage.objects.get(name="one")
    assert (stage.status, stage.pool_id) == ("queued", "other")
    assert Pool.objects.get(pk="other").queue_size == 1


def test_retry_run_rejects_a_pool_that_has_just_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    start_attempt(ONE)
    services.cancel_workflow(workflow_id="wf")
    deadline = planned_stages.deadline_of

    def close_meanwhile(workflow: Workflow) -> object:
        Pool.objects.filter(pk="pool").update(status="closed")
        return deadline(workflow)

    monkeypatch.setattr(run_retries, "deadline_of", close_meanwhile)
    with pytest.raises(services.PoolNotAccepting, match=r"^Pool pool is closed and accepts no stages\.$"):
        services.retry_run(workflow_id="wf")
    assert Workflow.objects.get().status == "cancelled"


def test_queue_retry_fails_the_run_if_the_pool_is_closed() -> None:
    stage_id, slot = start_attempt(ONE)
    services.fail_attempt(stage_id, 1, slot=slot, error="It broke")
    Pool.objects.update(status="closed")
    assert services.queue_retry(stage_id, due_before=datetime(9999, 1, 1, tzinfo=UTC))
    stage, workflow = Stage.objects.get(), Workflow.objects.get()
    assert (stage.status, stage.error) == ("failed", "Pool pool is closed and accepts no stages.")
    assert (workflow.status, workflow.error) == (
        "failed",
        "The stage one failed: Pool pool is closed and accepts no stages.",
    )
    assert [failed.error for failed in FailedAttempt.objects.all()] == ["It broke"]
    assert_all_add_up()
