"""Released attempts, drained workers, and their status."""

from __future__ import annotations

import pytest

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.models import FailedAttempt, Worker, Workflow
from tests.models.counter_audit import assert_all_add_up
from tests.services.one_stage_runs import join, start_run
from tests.services.signal_recorder import RecordedSignal, names_and_ids

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]


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
    workflow = Workflow.objects.get()
    assert (workflow.held_reason, workflow.held_needs) == ("no_worker_with", "program ffmpeg")
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


def test_process_that_expired_while_it_drained_drains_on_when_it_returns() -> None:
    slot = join("box")
    services.drain_worker(worker_id="box-1")
    assert services.expire_worker("box-1", no_heartbeat_since=database_now())
    beats = {"worker_ids": ["box-1"], "running": []}
    assert services.record_heartbeats(process=slot.process, **beats) == {"box-1": True}  # type: ignore[arg-type]
    assert not services.leave_pool(worker_id="box-1", process=slot.process, error="It stopped")
    assert join("other").worker_id == "other-1"
    assert join("box").worker_id == "box-1", "another process of this name takes its place, and does not drain"
    assert services.record_heartbeats(process="box", **beats) == {"box-1": False}  # type: ignore[arg-type]
