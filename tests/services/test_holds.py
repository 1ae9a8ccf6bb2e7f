"""Runs that no worker can take, and stages that workers refuse."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from orchestration import services, signals
from orchestration.db.clock import database_now
from orchestration.models import FailedAttempt, Stage, UnmetRequirement, Workflow
from orchestration.services.holds import MAX_HELD_SECONDS, MAX_OUTDATED_KINDS
from tests.models.counter_audit import assert_all_add_up
from tests.services.held_runs import dispatch_again, end_holds, hold_of, refuse, start_parallel_run
from tests.services.one_stage_runs import join, start_run
from tests.services.signal_recorder import RecordedSignal, names_and_ids

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]


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
    unmet = UnmetRequirement.objects.order_by("pk").values_list("worker", "name")
    assert list(unmet) == [(slot.worker_id, "shop:load") for slot in slots]


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


def test_processes_are_compared_by_all_of_their_workers() -> None:
    stage = start_run()
    old, new = [join("old"), join("old")], [join("new"), join("new")]
    refuse(old[0], stage)
    assert hold_of() == ("", ""), "the other process may have it"
    refuse(new[1], stage)
    assert hold_of() == ("no_worker_with", "shop:load"), "no other worker of the two processes has it"


def test_run_is_held_when_each_process_lacks_another_requirement() -> None:
    stage, first, second = start_run(), join("first"), join("second")
    refuse(first, stage, "program ffmpeg")
    assert hold_of() == ("", "")
    refuse(second, stage, "program sox")
    assert hold_of() == ("no_worker_with", "program sox; program ffmpeg")
    for _ in range(2):
        refuse(first, stage, "program ffmpeg")
        assert end_holds() == []
    join("third")
    assert end_holds() == ["wf"]


def test_holds_of_a_process_that_lacks_many_requirements_last() -> None:
    slot = join("box")
    stages = [start_run(f"wf_{number}") for number in range(105)]
    for number, stage in enumerate(stages):
        refuse(slot, stage, f"program {number}")
    assert end_holds() == []
    assert Workflow.objects.filter(held_reason="no_worker_with").count() == len(stages)


def test_process_that_has_a_requirement_after_all_no_longer_lacks_it() -> None:
    first, second = [join("first"), join("first")], join("second")
    stage = start_run()
    for slot in (*first, second):
        refuse(slot, stage, "program ffmpeg")
    assert hold_of() == ("no_worker_with", "program ffmpeg")
    assert services.claim_stage(stage.pk, 1, slot=first[0]) is not None, "the program is installed now"
    assert list(UnmetRequirement.objects.values_list("worker", flat=True)) == [second.worker_id]
    other = start_run("other")
    refuse(second, other, "program ffmpeg")
    assert hold_of("other") == ("", "")


def test_hold_of_one_stage_lasts_while_others_start() -> None:
    slot = join("box")
    held, other, third = start_parallel_run(3)
    refuse(slot, held, "a GPU")
    assert services.claim_stage(other.pk, 1, slot=slot) is not None
    assert hold_of() == ("no_worker_with", "a GPU")
    services.complete_attempt(other.pk, 1, slot=slot, output=None)
    Stage.objects.filter(pk=held.pk).update(refused_until=database_now() + timedelta(seconds=MAX_HELD_SECONDS))
    able = join("able")
    assert end_holds() == ["wf"]
    assert dispatch_again(held, after=0)
    assert services.claim_stage(held.pk, 1, slot=able) is not None
    assert services.claim_stage(third.pk, 1, slot=slot) is not None
    assert_all_add_up()


def test_skipped_stage_ends_the_hold_and_others_are_held_again(recorded: list[RecordedSignal]) -> None:
    slot = join("box")
    first, second, other, _ = start_parallel_run(4)
    refuse(slot, first, "a GPU")
    refuse(slot, second, "program sox")
    services.skip_stage(workflow_id="wf", stage_name=other.name)
    assert hold_of() == ("no_worker_with", "a GPU")
    services.skip_stage(workflow_id="wf", stage_name=first.name)
    assert hold_of() == ("", "")
    assert dispatch_again(second, after=0)
    refuse(slot, second, "program sox")
    assert hold_of() == ("no_worker_with", "program sox")
    assert hold_signals(recorded) == ["workflow_held", "workflow_hold_ended", "workflow_held"]


def test_skipped_stage_does_not_end_the_hold_of_a_pool_without_workers() -> None:
    skipped, *_ = start_parallel_run(2)
    services.hold_unclaimed("pool", ["wf"])
    services.skip_stage(workflow_id="wf", stage_name=skipped.name)
    assert hold_of() == ("no_worker", "")


def test_claim_ends_a_hold_that_is_about_no_stage() -> None:
    slot, stage = join("box"), start_run()
    refuse(slot, stage)
    Stage.objects.update(held=False)
    assert services.claim_stage(stage.pk, 1, slot=slot) is not None
    assert hold_of() == ("", "")


def test_holds_of_many_kinds_end_in_several_passes() -> None:
    count = 1_100
    stage = start_run("wf_0")
    running = {"status": "running", "started_at": timezone.now()}
    runs = [Workflow(pk=f"wf_{number}", plan={}, pool_id="pool", **running) for number in range(1, count)]
    held = {"held_reason": "no_worker_with", "held_since": timezone.now()}
    Workflow.objects.bulk_create(runs)
    Workflow.objects.update(**held)
    queued = {"status": "queued", "queued_at": timezone.now(), "pool_id": "pool", "held": True}
    Stage.objects.update(requirements="program 0", held=True)
    Stage.objects.bulk_create(
        Stage(workflow=run, name="one", position=0, requirements=f"program {run.pk}", **queued) for run in runs
    )
    assert end_holds() == []
    refuse(join("box"), stage, "program 0")
    ended = end_holds()
    assert len(set(ended)) == MAX_OUTDATED_KINDS
    assert "wf_0" not in ended
    assert set(end_holds()).isdisjoint(ended)
