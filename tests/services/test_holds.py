"""Runs that no worker can take, and stages that workers refuse."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from orchestration import services, signals
from orchestration.db.clock import database_now
from orchestration.models import FailedAttempt, Stage, Worker, Workflow
from orchestration.plan import Plan, StagePlan
from orchestration.services.holds import (
    FIRST_HELD_SECONDS,
    FIRST_REFUSED_SECONDS,
    MAX_HELD_SECONDS,
    MAX_REFUSED_SECONDS,
    MAX_UNRUNNABLE,
    runs_with_outdated_hold,
)
from tests.models.counter_audit import assert_all_add_up
from tests.services.one_stage_runs import join, start_run
from tests.services.signal_recorder import RecordedSignal, names_and_ids

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]


def hold_of(workflow_id: str = "wf") -> tuple[str, str]:
    workflow = Workflow.objects.get(pk=workflow_id)
    assert bool(workflow.held_reason) == (workflow.held_since is not None)
    return workflow.held_reason, workflow.held_needs


def lacking(code: str) -> dict[str, object]:
    """Return the argument of `claim_stage` for a worker that lacks this code."""
    return {"find_missing": lambda stage: services.Requirement(code)}


def refuse(slot: services.Slot, stage: Stage, code: str = "shop:load") -> None:
    with pytest.raises(services.StageNotRunnable) as refused:
        services.claim_stage(stage.pk, 1, slot=slot, **lacking(code))  # type: ignore[arg-type]
    assert str(refused.value) == f"Worker {slot.worker_id} cannot run the stage: it needs {code}."


def end_holds() -> list[str]:
    """End holds as the scheduler does, and return the runs that were held."""
    return [run.pk for run in runs_with_outdated_hold() if services.end_outdated_hold(run.pk)]


def dispatched_again(stage: Stage, *, after: float) -> bool:
    """Return whether the scheduler dispatches a refused stage when this many seconds have passed."""
    return services.dispatch_refused([stage.pk], now=database_now() + timedelta(seconds=after)) == 1


def test_run_is_held_when_no_process_has_its_code_and_a_claim_ends_the_hold(recorded: list[RecordedSignal]) -> None:
    old, able = join("old"), join("able")
    stage = start_run()
    refuse(old, stage)
    assert hold_of() == ("", ""), "another process may have it"
    refuse(able, stage)
    assert hold_of() == ("no_worker_with", "shop:load")
    refuse(old, stage)
    assert [name for name, _ in names_and_ids(recorded)].count("workflow_held") == 1
    stage.refresh_from_db()
    assert (stage.status, stage.attempt, FailedAttempt.objects.count()) == ("queued", 0, 0)
    assert end_holds() == []
    new = join("new")
    assert end_holds() == ["wf"], "the worker that has joined may have it"
    assert hold_of() == ("", "")
    assert services.claim_stage(stage.pk, 1, slot=new) is not None
    assert hold_of() == ("", "")
    assert_all_add_up()


def test_run_is_held_when_its_code_is_broken_in_another_way_on_each_process() -> None:
    stage = start_run()
    for process in (slots := [join("first"), join("second")]):
        with pytest.raises(services.StageNotRunnable):
            missing = services.Requirement("shop:load", f"NameError on {process.worker_id}")
            services.claim_stage(stage.pk, 1, slot=process, find_missing=lambda _, missing=missing: missing)  # type: ignore[misc]
    assert hold_of() == ("no_worker_with", "shop:load (NameError on second-1)")
    assert {worker.pk: worker.unrunnable for worker in Worker.objects.all()} == {
        slot.worker_id: ["shop:load"] for slot in slots
    }


def hold_signals(recorded: list[RecordedSignal]) -> list[str]:
    """Return the signals of holds and of ends, in order."""
    sent = [name for name, _ in names_and_ids(recorded)]
    return [
        name for name in sent if "hold" in name or "held" in name or name in ("stage_started", "workflow_cancelled")
    ]


def test_claim_ends_a_hold(recorded: list[RecordedSignal]) -> None:
    stage = start_run()
    slot = join("box")
    refuse(slot, stage)
    assert hold_of() == ("no_worker_with", "shop:load")
    assert services.claim_stage(stage.pk, 1, slot=slot) is not None
    assert hold_of() == ("", "")
    assert hold_signals(recorded) == ["workflow_held", "workflow_hold_ended", "stage_started"]


def test_end_of_a_run_ends_its_hold_first(recorded: list[RecordedSignal]) -> None:
    start_run()
    services.hold_unclaimed("pool", ["wf"])
    services.cancel_workflow(workflow_id="wf")
    assert hold_signals(recorded) == ["workflow_held", "workflow_hold_ended", "workflow_cancelled"]


def test_move_ends_a_hold_in_the_pool_that_the_run_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    pools = []
    monkeypatch.setattr(signals.workflow_hold_ended, "receivers", [])
    signals.workflow_hold_ended.connect(lambda workflow, **_: pools.append(workflow.pool_id), weak=False)
    start_run()
    services.create_pool(pool_id="other")
    services.hold_unclaimed("pool", ["wf"])
    services.reassign_workflow(workflow_id="wf", to_pool_id="pool")
    assert (hold_of(), pools) == (("no_worker", ""), []), "it has not moved"
    services.reassign_workflow(workflow_id="wf", to_pool_id="other")
    assert (hold_of(), pools) == (("", ""), ["pool"])
    assert services.hold_unclaimed("other", ["wf"]) == 1, "the other pool has no worker either"
    services.reassign_workflows(pool_id="other", to_pool_id="pool")
    assert (hold_of(), pools) == (("", ""), ["pool", "other"])
    assert_all_add_up()


def test_worker_that_joins_ends_the_holds_that_it_may_end(recorded: list[RecordedSignal]) -> None:
    start_run("any")
    services.hold_unclaimed("pool", ["any"])
    pinned = start_run("pinned", release="2")
    with pytest.raises(services.StageNotRunnable):
        services.claim_stage(pinned.pk, 1, slot=join("first", release="1"))
    assert end_holds() == ["any"]
    assert (hold_of("any"), hold_of("pinned")) == (("", ""), ("no_worker_with", "release 2"))
    join("second", release="1")
    assert end_holds() == [], "the worker has another release"
    join("third", release="2")
    assert end_holds() == ["pinned"]
    assert hold_of("pinned") == ("", "")
    ended = [(name, id) for name, id in names_and_ids(recorded) if name == "workflow_hold_ended"]
    assert ended == [("workflow_hold_ended", "any"), ("workflow_hold_ended", "pinned")]


def test_worker_of_an_external_orchestrator_takes_no_run_of_the_engine() -> None:
    services.create_pool(pool_id="pool")
    services.register_worker(worker_id="external", pool_id="pool")
    stage = start_run()
    assert services.hold_unclaimed("pool", ["wf"]) == 1
    assert hold_of() == ("no_worker", "")
    slot = join("box")
    assert end_holds() == ["wf"]
    refuse(slot, stage)
    assert hold_of() == ("no_worker_with", "shop:load"), "the external worker is no other that may run it"


def test_run_pinned_to_a_release_is_taken_by_workers_of_that_release_only() -> None:
    stage = start_run(release="2")
    first, second = join("first", release="1"), join("second", release="2")
    with pytest.raises(services.StageNotRunnable) as refused:
        services.claim_stage(stage.pk, 1, slot=first)
    assert refused.value.needs == "release 2"
    assert hold_of() == ("", "")
    services.leave_pool(worker_id=second.worker_id, process="second", error="It stopped")
    with pytest.raises(services.StageNotRunnable):
        services.claim_stage(stage.pk, 1, slot=first)
    assert hold_of() == ("no_worker_with", "release 2")
    assert services.claim_stage(stage.pk, 1, slot=join("third", release="2")) is not None


def test_pool_without_workers_holds_its_queued_runs_and_no_other(recorded: list[RecordedSignal]) -> None:
    start_run("queued")
    start_run("cancelled")
    services.cancel_workflow(workflow_id="cancelled")
    recorded.clear()
    assert services.hold_unclaimed("pool", ["queued", "cancelled"]) == 1
    assert services.hold_unclaimed("pool", ["queued", "cancelled"]) == 0
    assert names_and_ids(recorded) == [("workflow_held", "queued")]
    assert (hold_of("queued"), hold_of("cancelled")) == (("no_worker", ""), ("", ""))
    join("box")
    assert end_holds() == ["queued"]
    assert services.hold_unclaimed("pool", ["queued"]) == 0, "the pool has a worker"
    services.drain_worker(worker_id="box-1")
    assert services.hold_unclaimed("pool", ["queued"]) == 1, "its only worker drains"
    services.cancel_workflow(workflow_id="queued")
    assert hold_of("queued") == ("", "")


@pytest.mark.parametrize(
    ("others", "hours", "pause_seconds"),
    [(1, 0, FIRST_REFUSED_SECONDS), (1, 9, MAX_REFUSED_SECONDS), (0, 0, FIRST_HELD_SECONDS), (0, 9, MAX_HELD_SECONDS)],
)
def test_refused_stage_has_no_message_for_a_while(others: int, hours: int, pause_seconds: float) -> None:
    slot, _ = join("box"), [join("other") for _ in range(others)]
    stage = start_run()
    Stage.objects.update(queued_at=timezone.now() - timedelta(hours=hours))
    refuse(slot, stage)
    stage.refresh_from_db()
    assert (stage.status, stage.dispatch_due_at) == ("queued", None)
    assert not dispatched_again(stage, after=pause_seconds / 2)
    assert dispatched_again(stage, after=pause_seconds + 1)
    stage.refresh_from_db()
    assert (stage.refused_until, stage.dispatch_due_at is None) == (None, False)
    assert not dispatched_again(stage, after=pause_seconds + 1)


def test_held_run_is_dispatched_when_a_worker_has_joined_that_may_take_it() -> None:
    stage = start_run()
    refuse(join("box"), stage)
    assert not dispatched_again(stage, after=1)
    join("new")
    assert end_holds() == ["wf"]
    assert dispatched_again(stage, after=1)


def test_move_dispatches_a_refused_stage_in_the_other_pool() -> None:
    stage = start_run()
    refuse(join("box"), stage)
    services.create_pool(pool_id="other")
    services.reassign_workflow(workflow_id="wf", to_pool_id="other")
    stage.refresh_from_db()
    assert (stage.refused_until, stage.dispatch_due_at is None) == (None, False)


def test_processes_are_compared_by_all_of_their_workers() -> None:
    stage = start_run()
    old, new = [join("old"), join("old")], [join("new"), join("new")]
    refuse(old[0], stage)
    assert hold_of() == ("", ""), "the other process may have it"
    refuse(new[1], stage)
    assert hold_of() == ("no_worker_with", "shop:load"), "no other worker of the two processes has it"


def test_wide_run_continues_behind_a_refused_stage() -> None:
    plan = Plan(
        name="held", adapter="python", stages=tuple(StagePlan(name=f"s{number}", step=0) for number in range(8))
    )
    slot = join("box")
    services.start_run(plan, prompt="", params={}, pool_id="pool", workflow_id="wf")
    first, second = Stage.objects.order_by("position")[:2]
    refuse(slot, first)
    assert services.claim_stage(second.pk, 1, slot=slot) is not None
    first.refresh_from_db()
    assert (first.status, first.dispatch_due_at, first.refused_until is None) == ("queued", None, False)
    assert Stage.objects.filter(status="queued", dispatch_due_at__isnull=False).exists()


def test_worker_remembers_a_bounded_number_of_missing_definitions() -> None:
    stage, slot = start_run(), join("box")
    for number in range(MAX_UNRUNNABLE + 5):
        refuse(slot, stage, f"shop:load_{number}")
    unrunnable = Worker.objects.get().unrunnable
    assert (len(unrunnable), unrunnable[-1]) == (MAX_UNRUNNABLE, f"shop:load_{MAX_UNRUNNABLE + 4}")
