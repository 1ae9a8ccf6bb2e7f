"""Workers that are removed because they have been offline for long."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db.models import RestrictedError
from django.db.models.signals import pre_delete
from pytest_django import Settings

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.limits import EngineLimits
from orchestration.models import Pool, Stage, Worker
from orchestration.plan import Plan, StagePlan
from orchestration.scheduler import Scheduler
from orchestration.services import worker_retention
from orchestration.services.worker_retention import WorkerRetention, WorkerSweep
from tests.models.counter_audit import assert_all_add_up
from tests.services.builders import worker_with, workflow_with
from tests.services.signal_recorder import record_signals

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]

DAY = timedelta(days=1)
MAX_AGE = 7 * DAY


def changed(worker_id: str, *, days_ago: float) -> None:
    Worker.objects.filter(pk=worker_id).update(status_changed_at=database_now() - days_ago * DAY)


def external(worker_id: str, status: str, *, days_ago: float, pool_id: str = "pool") -> None:
    worker_with(status, worker_id=worker_id, pool_id=pool_id)
    changed(worker_id, days_ago=days_ago)


def of_engine(name: str, *, days_ago: float, is_alive: bool = False) -> str:
    worker_id = services.join_pool(name=name, process=name, pool_id="pool")
    if not is_alive:
        services.leave_pool(worker_id=worker_id, process=name, error="It was stopped")
    changed(worker_id, days_ago=days_ago)
    return worker_id


def kept() -> list[str]:
    return sorted(Worker.objects.values_list("pk", flat=True))


def prune(retention: WorkerRetention) -> int:
    sweep = WorkerSweep(retention)
    return sum(iter(sweep.prune_block, None))


def test_workers_that_have_been_offline_for_long_are_removed() -> None:
    for status in ("idle", "busy", "error"):
        external(status, status, days_ago=30)
    external("old", "offline", days_ago=8)
    external("new", "offline", days_ago=6)
    of_engine("box", days_ago=8)
    of_engine("live", days_ago=8, is_alive=True)
    assert prune(WorkerRetention(max_age=MAX_AGE)) == 2
    assert kept() == ["busy", "error", "idle", "live-1", "new"]
    assert Pool.objects.get().worker_count == 5
    assert_all_add_up()


def test_worker_with_a_running_stage_is_kept() -> None:
    workflow_with("running")
    external("old", "offline", days_ago=30)
    services.start_stage(workflow_id="wf", stage_name="one", worker_id="old")
    assert prune(WorkerRetention(max_age=MAX_AGE)) == 0
    services.complete_stage(workflow_id="wf", stage_name="one")
    assert prune(WorkerRetention(max_age=MAX_AGE)) == 1
    assert Stage.objects.get(name="one").worker_id == "old"


def test_worker_that_has_claimed_a_stage_is_kept_in_any_status() -> None:
    plan = Plan(name="run", adapter="python", stages=(StagePlan(name="one", step=0),))
    services.start_run(plan, prompt="", params={}, pool_id="pool", workflow_id="wf")
    worker_id = of_engine("box", days_ago=30, is_alive=True)
    services.claim_stage(Stage.objects.get().pk, 1, slot=services.Slot(worker_id=worker_id, process="box"))
    Worker.objects.update(status="offline", process="")
    changed(worker_id, days_ago=30)
    assert prune(WorkerRetention(max_age=MAX_AGE)) == 0
    Worker.objects.update(stage=None)
    assert prune(WorkerRetention(max_age=MAX_AGE)) == 0, "the stage still runs"


def test_worker_that_returns_during_the_sweep_is_kept() -> None:
    external("a", "offline", days_ago=9)
    external("b", "offline", days_ago=8)
    retention = WorkerRetention(max_age=MAX_AGE)
    removable = retention.removable()
    assert removable.count() == 2
    services.change_worker_status(worker_id="b", status="idle")
    assert [worker_retention._remove_if(removable, worker_id) for worker_id in ("a", "b", "gone")] == [
        True,
        False,
        False,
    ]
    assert kept() == ["b"]


def test_removed_worker_is_announced_and_may_register_again(monkeypatch: pytest.MonkeyPatch) -> None:
    external("old", "offline", days_ago=8)
    recorded = record_signals(monkeypatch)
    assert prune(WorkerRetention(max_age=MAX_AGE)) == 1
    assert [(signal.name, signal.row_id) for signal in recorded if signal.name.startswith("worker")] == [
        ("worker_removed", "old")
    ]
    recorded.clear()
    services.register_worker(worker_id="old", pool_id="pool")
    assert "worker_added" in [signal.name for signal in recorded]


def test_sweep_removes_blocks_of_one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_retention, "MAX_WORKERS_PER_BLOCK", 2)
    for number in range(5):
        # Three of them left at the same time.
        external(f"w_{number}", "offline", days_ago=10)
    at = database_now() - 10 * DAY
    Worker.objects.filter(pk__in=["w_1", "w_2", "w_3"]).update(status_changed_at=at)
    external("other", "offline", days_ago=10, pool_id="other")
    sweep = WorkerSweep(WorkerRetention(max_age=MAX_AGE, pool_id="pool"))
    assert list(iter(sweep.prune_block, None)) == [2, 2, 1]
    assert kept() == ["other"]


def test_scheduler_removes_offline_workers(settings: Settings) -> None:
    settings.MAHAVISHNU_ENGINE = EngineLimits(max_offline_worker_age_seconds=2 * DAY.total_seconds())
    external("old", "offline", days_ago=3)
    external("new", "offline", days_ago=1)
    scheduler = Scheduler()
    assert [scheduler.prune_workers(database_now()) for _ in range(2)] == [1, 0]
    assert kept() == ["new"]
    external("later", "offline", days_ago=3)
    assert scheduler.prune_workers(database_now()) == 0, "the next look is a minute later"


def test_worker_that_cannot_be_removed_hides_no_other(caplog: pytest.LogCaptureFixture) -> None:
    def restrict(instance: Worker, **_: object) -> None:
        if instance.pk == "kept":
            raise RestrictedError("Some rows need it", set())

    external("kept", "offline", days_ago=9)
    external("old", "offline", days_ago=8)
    scheduler = Scheduler()
    pre_delete.connect(restrict, sender=Worker)
    try:
        with caplog.at_level(logging.WARNING):
            assert [scheduler.prune_workers(database_now()) for _ in range(2)] == [1, 0]
        with pytest.raises(CommandError, match=r"Cannot remove 1 offline workers, such as kept \(Some rows need it\)"):
            call_command("prune_workers")
    finally:
        pre_delete.disconnect(restrict, sender=Worker)
    assert kept() == ["kept"]
    assert [record.message for record in caplog.records if "offline workers" in record.message] == [
        "Cannot delete 1 offline workers, such as kept (Some rows need it); the scheduler tries again in an hour"
    ]
    assert scheduler._failures.stuck_jobs() == []


def test_command_counts_and_removes(capsys: pytest.CaptureFixture[str]) -> None:
    external("old", "offline", days_ago=40)
    external("new", "offline", days_ago=1)
    external("idle", "idle", days_ago=40)
    call_command("prune_workers", "--older-than", "12h", "--dry-run")
    call_command("prune_workers", "--older-than", "12h", "--pool", "other")
    call_command("prune_workers")
    assert kept() == ["idle", "new"]
    call_command("prune_workers", "--older-than", "0s", "--pool", "pool")
    assert kept() == ["idle"]
    assert capsys.readouterr().out.splitlines() == [
        "Would remove 2 offline workers",
        "Removed 0 offline workers",
        "Removed 1 offline workers",
        "Removed 1 offline workers",
    ]
    with pytest.raises(CommandError):
        call_command("prune_workers", "--older-than", "30")
