"""Released attempts, drained workers, and runs that no worker can take."""

from __future__ import annotations

import pytest

from orchestration import services, signals
from orchestration.models import FailedAttempt, Stage, Worker, Workflow
from orchestration.plan import Plan, Retry, StagePlan
from orchestration.services.holds import MAX_UNRUNNABLE
from tests.models.counter_audit import assert_all_add_up
from tests.services.signal_recorder import RecordedSignal, names_and_ids

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]

PLAN = Plan(name="held", adapter="python", stages=(StagePlan(name="one", step=0, retries=Retry(max_attempts=1)),))


def start_run(workflow_id: str = "wf", *, release: str = "") -> Stage:
    run = services.start_run(PLAN, prompt="", params={}, pool_id="pool", workflow_id=workflow_id, release=release)
    return run.stages.get()


def join(process: str, *, release: str = "") -> services.Slot:
    worker_id = services.join_pool(name=process, process=process, pool_id="pool", release=release)
    return services.Slot(worker_id=worker_id, process=process)


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


def test_released_attempts_are_neither_failed_nor_lost_however_many(recorded: list[RecordedSignal]) -> None:
    stage, slot = start_run(), join("box")
    for attempt in range(1, 11):
        assert services.claim_stage(stage.pk, attempt, slot=slot) is not None
        assert services.release_attempt(stage.pk, attempt, slot=slot, error="The worker was stopped").accepted
    assert services.claim_stage(stage.pk, 11, slot=slot) is not None
    assert not services.release_attempt(stage.pk, 3, slot=slot, error="An old attempt").accepted
    assert services.complete_attempt(stage.pk, 11, slot=slot, output="done").accepted
    stage.refresh_from_db()
    assert (stage.status, stage.attempt, stage.lost_attempts) == ("completed", 11, 0)
    assert set(FailedAttempt.objects.values_list("reason", flat=True)) == {"released"}
    names = [signal.name for signal in recorded]
    assert (names.count("stage_released"), names.count("stage_retrying"), names.count("stage_failed")) == (10, 0, 0)
    assert_all_add_up()


def test_attempt_that_lacks_a_requirement_is_released_and_holds_the_run(recorded: list[RecordedSignal]) -> None:
    stage, slot = start_run(), join("box")
    services.claim_stage(stage.pk, 1, slot=slot)
    recorded.clear()
    missing = services.Requirement("program ffmpeg")
    assert services.release_attempt(stage.pk, 1, slot=slot, missing=missing).accepted
    names = [signal.name for signal in recorded if signal.name in ("stage_released", "workflow_held")]
    assert names == ["stage_released", "workflow_held"]
    assert hold_of() == ("no_worker_with", "program ffmpeg")
    stage.refresh_from_db()
    assert (stage.status, stage.last_attempt, stage.lost_attempts) == ("queued", 2, 0)
    with pytest.raises(services.StageNotRunnable):
        services.claim_stage(stage.pk, 2, slot=slot)
    services.leave_pool(worker_id=slot.worker_id, process="box", error="It stopped")
    restarted = services.Slot(worker_id=services.join_pool(name="box", process="new", pool_id="pool"), process="new")
    assert restarted.worker_id == slot.worker_id
    assert services.claim_stage(stage.pk, 2, slot=restarted) is not None
    assert_all_add_up()


@pytest.mark.parametrize("reason", ["released", "lost"])
def test_worker_that_leaves_releases_or_loses_its_attempt(reason: str) -> None:
    stage, slot = start_run(), join("box")
    services.claim_stage(stage.pk, 1, slot=slot)
    services.leave_pool(worker_id=slot.worker_id, process="box", error="It stopped", reason=reason)  # type: ignore[arg-type]
    stage.refresh_from_db()
    assert (stage.status, stage.lost_attempts) == ("queued", int(reason == "lost"))
    assert FailedAttempt.objects.get().reason == reason


def test_drain_covers_the_process_and_ends_when_its_workers_join_again(recorded: list[RecordedSignal]) -> None:
    slots = [join("box"), join("box")]
    other = join("other")
    recorded.clear()
    drained = services.drain_worker(worker_id="box-2")
    assert [worker.pk for worker in drained] == ["box-1", "box-2"]
    assert names_and_ids(recorded) == [("worker_draining", "box-1"), ("worker_draining", "box-2")]
    services.drain_worker(worker_id="box-1")
    assert len(recorded) == 2, "they drain already"
    stage = start_run()
    for slot in slots:
        with pytest.raises(services.StaleWorker):
            services.claim_stage(stage.pk, 1, slot=slot)
    beats = services.record_heartbeats(process="box", worker_ids=["box-1", "box-2"], running=[])
    assert beats == {"box-1": True, "box-2": True}
    assert services.claim_stage(stage.pk, 1, slot=other) is not None
    services.leave_pool(worker_id="box-1", process="box", error="The worker was stopped")
    assert join("box").worker_id == "box-1"
    assert services.record_heartbeats(process="box", worker_ids=["box-1"], running=[]) == {"box-1": False}


def test_only_online_workers_of_the_engine_can_be_drained() -> None:
    slot = join("box")
    services.leave_pool(worker_id=slot.worker_id, process="box", error="It stopped")
    services.register_worker(worker_id="external", pool_id="pool")
    for worker_id, reason in (
        ("box-1", "Worker box-1 is offline; only an online worker can be drained."),
        (
            "external",
            "Worker external belongs to an external orchestrator; only workers of the engine can be drained.",
        ),
        ("unknown", "Worker unknown not found."),
    ):
        with pytest.raises(services.ServiceError) as refused:
            services.drain_worker(worker_id=worker_id)
        assert str(refused.value) == reason


def test_status_of_a_live_worker_of_the_engine_cannot_be_set() -> None:
    slot = join("box")
    with pytest.raises(services.EngineWorker) as refused:
        services.change_worker_status(worker_id=slot.worker_id, status="offline")
    assert str(refused.value) == (
        "Worker box-1 is run by the engine, and its process is alive; drain it with drain_worker, or stop the process."
    )
    assert Worker.objects.get().status == "idle"


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
    new = join("new")
    assert hold_of() == ("", ""), "the worker that has joined may have it"
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
    assert (hold_of("any"), hold_of("pinned")) == (("", ""), ("no_worker_with", "release 2"))
    join("second", release="1")
    assert hold_of("pinned") == ("no_worker_with", "release 2"), "the worker has another release"
    join("third", release="2")
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
    assert hold_of() == ("", "")
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
    assert hold_of("queued") == ("", "")
    assert services.hold_unclaimed("pool", ["queued"]) == 0, "the pool has a worker"
    services.drain_worker(worker_id="box-1")
    assert services.hold_unclaimed("pool", ["queued"]) == 1, "its only worker drains"
    services.cancel_workflow(workflow_id="queued")
    assert hold_of("queued") == ("", "")


def test_worker_remembers_a_bounded_number_of_missing_definitions() -> None:
    stage, slot = start_run(), join("box")
    for number in range(MAX_UNRUNNABLE + 5):
        refuse(slot, stage, f"shop:load_{number}")
    unrunnable = Worker.objects.get().unrunnable
    assert (len(unrunnable), unrunnable[-1]) == (MAX_UNRUNNABLE, f"shop:load_{MAX_UNRUNNABLE + 4}")
