"""Services for external orchestrators, called on a run of the engine: it is refused, or continues."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from orchestration import services, signals
from orchestration.models import Stage, Workflow
from orchestration.plan import Plan, StagePlan
from orchestration.scheduler import Scheduler
from orchestration.services.dispatch_window import MAX_NARROW_STAGES
from tests.models.counter_audit import assert_all_add_up

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]

STAGES = ("one", "two", "three")


def start_run() -> services.Slot:
    """Start a run of three steps, and claim its first stage."""
    stages = tuple(StagePlan(name=name, step=step) for step, name in enumerate(STAGES))
    plan = Plan(name="run", adapter="python", stages=stages)
    services.start_run(plan, prompt="", params={}, pool_id="pool", workflow_id="wf")
    slot = services.Slot(worker_id=services.join_pool(name="box", process="box", pool_id="pool"), process="box")
    assert services.claim_stage(stage("one").pk, 1, slot=slot) is not None
    return slot


def stage(name: str) -> Stage:
    return Stage.objects.get(workflow_id="wf", name=name)


def statuses() -> list[str]:
    return [stage(name).status for name in STAGES]


@pytest.mark.parametrize("name", STAGES)
@pytest.mark.parametrize(
    "service",
    [services.queue_stage, services.start_stage, services.complete_stage, partial(services.fail_stage, error="No")],
    ids=["queue_stage", "start_stage", "complete_stage", "fail_stage"],
)
def test_stage_of_the_engine_is_changed_by_the_engine_only(service: Callable[..., Stage], name: str) -> None:
    start_run()
    with pytest.raises(services.EngineRun) as refused:
        service(workflow_id="wf", stage_name=name)
    assert str(refused.value) == (
        f"Workflow wf is run by the engine, which changes stage {name} itself; allowed: skip_stage before it starts, "
        "cancel_workflow, reassign_workflow and, after its end, retry_run."
    )
    assert statuses() == ["running", "pending", "pending"]
    assert_all_add_up()


def test_skipped_stages_of_the_engine_do_not_stop_its_run() -> None:
    slot = start_run()
    services.skip_stage(workflow_id="wf", stage_name="two")
    assert statuses() == ["running", "skipped", "pending"]
    with pytest.raises(services.EngineRun, match="skip_stage before it starts"):
        services.skip_stage(workflow_id="wf", stage_name="one")
    services.complete_attempt(stage("one").pk, 1, slot=slot, output="of one")
    assert statuses() == ["completed", "skipped", "queued"]
    services.skip_stage(workflow_id="wf", stage_name="three")
    assert (statuses(), Workflow.objects.get().status) == (["completed", "skipped", "skipped"], "completed")
    assert_all_add_up()


def test_reason_of_a_skipped_stage_is_stored_until_it_runs_again() -> None:
    slot = start_run()
    services.skip_attempt(stage("one").pk, 1, slot=slot, reason="w" * 501)
    assert stage("one").skip_reason == "w" * 499 + "\N{HORIZONTAL ELLIPSIS}"
    services.cancel_workflow(workflow_id="wf")
    services.retry_run(workflow_id="wf", from_stage="one")
    assert (stage("one").status, stage("one").skip_reason) == ("queued", "")


def test_first_stage_that_is_skipped_queues_the_next() -> None:
    services.start_run(
        Plan(name="run", adapter="python", stages=(StagePlan(name="one", step=0), StagePlan(name="two", step=1))),
        prompt="",
        params={},
        pool_id="pool",
        workflow_id="wf",
    )
    services.skip_stage(workflow_id="wf", stage_name="one")
    assert [stage("one").status, stage("two").status] == ["skipped", "queued"]
    assert_all_add_up()


@pytest.mark.parametrize(
    ("edited", "status", "after"),
    [
        ("completed", "running", ["completed", "queued", "pending"]),
        ("failed", "failed", ["failed", "cancelled", "cancelled"]),
    ],
)
def test_scheduler_continues_a_run_with_nothing_to_do(edited: str, status: str, after: list[str]) -> None:
    slot = start_run()
    services.leave_pool(worker_id=slot.worker_id, process="box", error="It stopped")
    first = stage("one")
    # As SQL of an operator may do.
    Stage.objects.filter(pk=first.pk).update(
        status=edited, finished_at=first.started_at, dispatch_due_at=None, error="It broke"
    )
    Scheduler().run_once()
    workflow = Workflow.objects.get()
    assert (workflow.status, statuses()) == (status, after)
    assert workflow.error == ("The stage one failed: It broke" if status == "failed" else "")


def test_scheduler_leaves_runs_with_work_alone() -> None:
    start_run()
    services.create_workflow(workflow_id="external", adapter="python", prompt="", stages=["one"], pool_id="pool")
    services.start_workflow(workflow_id="external")
    assert Scheduler().continue_stalled_runs(Workflow.objects.latest("created_at").created_at) == 0
    assert not services.continue_stalled_run("external")
    assert not services.continue_stalled_run("wf")
    assert statuses() == ["running", "pending", "pending"]


@pytest.mark.parametrize("before", [0, 1])
def test_signal_names_the_queued_stages_of_a_wide_step_that_has_a_hosted_one(
    before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    queued: list[Any] = []
    monkeypatch.setattr(signals.stages_queued, "receivers", [])
    signals.stages_queued.connect(lambda **arguments: queued.append(arguments), weak=False)
    wide = [StagePlan(name=f"part_{number}", step=before) for number in range(MAX_NARROW_STAGES + 1)]
    first = [StagePlan(name="first", step=number) for number in range(before)]
    hosted = StagePlan(name="hosted", step=before, hosted=True)
    plan = Plan(name="wide", adapter="python", stages=(*first, *wide, hosted))
    services.start_run(plan, prompt="", params={}, pool_id="pool", workflow_id="wf")
    if before:
        services.skip_stage(workflow_id="wf", stage_name="first")
    assert [each.name for each in queued[-1]["stages"]] == [each.name for each in wide]
    assert (stage("part_0").status, stage("hosted").status) == ("queued", "pending")
