"""Stages with an own pool."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.models import Pool, Stage, Workflow
from orchestration.plan import Plan, Retry, StagePlan
from orchestration.scheduler import Scheduler
from tests.models.counter_audit import assert_all_add_up
from tests.services.broker_worker import BrokerWorker, take_messages
from tests.services.wide_runs import dispatched, is_marked

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

TWICE = Retry(max_attempts=2, backoff_seconds=0)


@pytest.fixture(autouse=True)
def empty_queues() -> None:
    for pool_id in ("cpu", "gpu", "other"):
        take_messages(pool_id, at_most=1000)


def start(*stages: StagePlan, workflow_id: str = "wf") -> Workflow:
    plan = Plan(name="mixed", adapter="python", stages=stages)
    return services.start_run(plan, prompt="", params={}, pool_id="cpu", workflow_id=workflow_id)


def pools_of(workflow_id: str = "wf") -> dict[str, tuple[str, str | None]]:
    stages = Stage.objects.filter(workflow_id=workflow_id).order_by("position")
    return {stage.name: (stage.status, stage.pool_id) for stage in stages}


PREPARE = StagePlan(name="prepare", step=0)
TRAIN = StagePlan(name="train", step=1, pool="gpu", retries=TWICE)
REPORT = StagePlan(name="report", step=2)


def test_each_stage_is_queued_and_run_in_its_pool() -> None:
    cpu, gpu = BrokerWorker(pool_id="cpu", name="cpu"), BrokerWorker(pool_id="gpu", name="gpu")
    start(PREPARE, TRAIN, REPORT)
    assert pools_of() == {"prepare": ("queued", "cpu"), "train": ("pending", "gpu"), "report": ("pending", "cpu")}
    assert gpu.take() is None
    assert [stage.name for stage in cpu.run_all()] == ["prepare"]
    assert pools_of()["train"] == ("queued", "gpu")
    assert [pool.queue_size for pool in Pool.objects.order_by("pk")] == [0, 1]
    assert_all_add_up()
    assert [stage.name for stage in gpu.run_all()] == ["train"]
    assert [stage.name for stage in cpu.run_all()] == ["report"]
    assert Workflow.objects.get().status == "completed"
    assert [(pool.pk, pool.tasks_completed) for pool in Pool.objects.order_by("pk")] == [("cpu", 2), ("gpu", 1)]
    assert_all_add_up()


def test_start_creates_the_pools_of_the_stages() -> None:
    start(PREPARE, TRAIN)
    assert list(Pool.objects.order_by("pk").values_list("pk", flat=True)) == ["cpu", "gpu"]


@pytest.mark.parametrize("change", [services.drain_pool, services.close_pool])
def test_start_is_refused_if_the_pool_of_a_stage_accepts_no_runs(change) -> None:  # type: ignore[no-untyped-def]
    services.create_pool(pool_id="gpu")
    status = change(pool_id="gpu").status
    with pytest.raises(services.PoolNotAccepting) as refused:
        start(PREPARE, TRAIN)
    assert str(refused.value) == f"Pool gpu is {status} and accepts no new workflows."
    assert not Workflow.objects.exists()


def test_pool_with_a_pending_stage_cannot_be_closed_or_removed() -> None:
    start(PREPARE, TRAIN)
    with pytest.raises(services.PoolNotEmpty):
        services.close_pool(pool_id="gpu")
    with pytest.raises(services.PoolInUse):
        services.remove_pool(pool_id="gpu")


def test_moved_run_keeps_its_stages_with_an_own_pool() -> None:
    services.create_pool(pool_id="other")
    start(PREPARE, StagePlan(name="both", step=0, pool="gpu"), TRAIN, REPORT)
    services.reassign_workflow(workflow_id="wf", to_pool_id="other")
    assert pools_of() == {
        "prepare": ("queued", "other"),
        "both": ("queued", "gpu"),
        "train": ("pending", "gpu"),
        "report": ("pending", "other"),
    }
    assert_all_add_up()


def test_failed_attempt_is_repeated_in_the_pool_of_the_stage() -> None:
    gpu = BrokerWorker(pool_id="gpu", name="gpu")
    start(StagePlan(name="train", step=0, pool="gpu", retries=TWICE))
    services.create_pool(pool_id="other")
    claim = gpu.take()
    assert claim is not None
    services.reassign_workflow(workflow_id="wf", to_pool_id="other")
    services.fail_attempt(claim.stage.pk, 1, slot=gpu.slot, error="It broke")
    assert pools_of() == {"train": ("queued", "gpu")}
    assert_all_add_up()


def test_retry_of_a_moved_run_uses_the_pools_of_the_stages() -> None:
    cpu = BrokerWorker(pool_id="cpu", name="cpu")
    start(PREPARE, TRAIN, REPORT)
    cpu.run_all()
    services.create_pool(pool_id="other")
    services.reassign_workflow(workflow_id="wf", to_pool_id="other")
    services.cancel_workflow(workflow_id="wf")
    services.retry_run(workflow_id="wf", from_stage="prepare")
    assert pools_of() == {"prepare": ("queued", "other"), "train": ("pending", "gpu"), "report": ("pending", "other")}
    assert_all_add_up()
    services.cancel_workflow(workflow_id="wf")
    services.close_pool(pool_id="gpu")
    with pytest.raises(services.PoolNotAccepting) as refused:
        services.retry_run(workflow_id="wf")
    assert str(refused.value) == "Pool gpu is closed and accepts no stages."


def test_wide_step_has_a_window_in_each_pool() -> None:
    cpu, gpu = BrokerWorker(pool_id="cpu", name="cpu"), BrokerWorker(pool_id="gpu", name="gpu")
    wide = [StagePlan(name=f"c{number}", step=1) for number in range(8)]
    wide += [StagePlan(name=f"g{number}", step=1, pool="gpu") for number in range(8)]
    start(PREPARE, *wide, StagePlan(name="last", step=2), workflow_id="wide")
    first = cpu.take()
    assert first is not None
    cpu.complete(first)
    assert dispatched() == ["c0", "c1", "g0", "g1"]
    assert is_marked()
    # The cpu is done first, and what waits for the gpu does not wait for it.
    assert [stage.name for stage in cpu.run_all()] == [f"c{number}" for number in range(8)]
    assert is_marked()
    assert dispatched() == ["g0", "g1"]
    assert [stage.name for stage in gpu.run_all()] == [f"g{number}" for number in range(8)]
    assert not is_marked()
    assert [stage.name for stage in cpu.run_all()] == ["last"]
    assert Workflow.objects.get().status == "completed"
    assert_all_add_up()


def test_first_wide_step_has_a_window_in_each_pool() -> None:
    wide = [StagePlan(name=f"c{number}", step=0) for number in range(4)]
    start(*wide, *(StagePlan(name=f"g{number}", step=0, pool="gpu") for number in range(4)), workflow_id="wide")
    assert dispatched() == ["c0", "c1", "g0", "g1"]
    BrokerWorker(pool_id="gpu", name="gpu")
    Stage.objects.filter(name__in=["g0", "g1"]).update(dispatch_due_at=None)
    assert Scheduler().refill_windows(database_now()) == 2
    assert dispatched() == ["c0", "c1", "g0", "g1"]


def test_run_is_held_until_each_pool_with_queued_stages_has_a_worker() -> None:
    cpu = BrokerWorker(pool_id="cpu", name="cpu")
    start(PREPARE, StagePlan(name="train", step=0, pool="gpu"), REPORT)
    now = database_now() + timedelta(hours=1)
    scheduler = Scheduler()
    assert scheduler.hold_unclaimed(now) == 1
    assert Workflow.objects.get().held_reason == "no_worker"
    # A stage of the other pool starts: what is held waits as before.
    assert [stage.name for stage in cpu.run_all()] == ["prepare"]
    assert Workflow.objects.get().held_reason == "no_worker"
    assert scheduler.end_holds(now) == 0
    gpu = BrokerWorker(pool_id="gpu", name="gpu")
    assert scheduler.end_holds(now) == 1
    assert Workflow.objects.get().held_reason == ""
    assert [stage.name for stage in gpu.run_all()] == ["train"]


def test_added_stage_gets_its_pool_or_is_refused() -> None:
    cpu = BrokerWorker(pool_id="cpu", name="cpu")
    start(PREPARE, workflow_id="grows")
    claim = cpu.take()
    assert claim is not None
    services.create_pool(pool_id="gone")
    services.close_pool(pool_id="gone")
    refused = [StagePlan(name="train", step=0, pool="gone")]
    with pytest.raises(services.PoolNotAccepting):
        services.complete_attempt(claim.stage.pk, 1, slot=cpu.slot, output=None, next_stages=refused)
    added = [StagePlan(name="train", step=0, pool="gpu")]
    services.complete_attempt(claim.stage.pk, 1, slot=cpu.slot, output=None, next_stages=added)
    assert pools_of("grows")["train"] == ("queued", "gpu")
    assert Workflow.objects.get().pool_ids == ["cpu", "gpu"]
    assert_all_add_up()
