"""A pass of the scheduler in which a row, a job or the database fails."""

from __future__ import annotations

import dataclasses
import logging
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import IntegrityError, OperationalError
from django.utils import timezone
from pytest_django import Settings

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.limits import EngineLimits
from orchestration.models import Pool, SchedulerHeartbeat, Stage, Wait, Worker, Workflow
from orchestration.plan import Plan, StagePlan, WaitPlan
from orchestration.scheduler import Scheduler, due_select
from orchestration.scheduler import clock as clock_module
from orchestration.scheduler import scheduler as scheduler_module
from orchestration.scheduler.scheduler import HEARTBEAT_SECONDS
from orchestration.services.pool_metrics import SCHEDULER_TIMEOUT_SECONDS
from tests.harness.logs import logged_by
from tests.services.signal_recorder import METRICS, names_and_ids, record_signals
from tests.worker.scheduled_runs import MonotonicClock, start_late_run, start_run_with_due_retry, status_of

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def test_due_retry_in_a_closed_pool_fails_the_run_and_the_other_jobs_run(caplog: pytest.LogCaptureFixture) -> None:
    start_run_with_due_retry("retried")
    start_late_run("late")
    # `close_pool` rejects this: the pool was closed in another way.
    Pool.objects.filter(pk="pool").update(status="closed")
    Scheduler().run_once()
    workflow = Workflow.objects.get(pk="retried")
    assert (workflow.status, workflow.error) == (
        "failed",
        "The stage one failed: Pool pool is closed and accepts no stages.",
    )
    assert Stage.objects.get(workflow_id="retried").status == "failed"
    assert status_of("late") == "timeout"
    assert logged_by("orchestration.scheduler", caplog) == []


def test_suspended_scheduler_expires_no_worker(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.create_pool(pool_id="pool")
    worker_id = services.join_pool(name="asleep", process="asleep", pool_id="pool")
    clock = MonotonicClock(monkeypatch)
    scheduler = Scheduler()
    clock.advance(1000)  # The grace period of the start has passed.
    scheduler.run_once()
    caplog.clear()

    def worker_after(seconds: float) -> str:
        clock.advance(seconds)
        Worker.objects.filter(pk=worker_id).update(heartbeat_at=database_now() - timedelta(seconds=20))
        scheduler.run_once()
        return Worker.objects.get(pk=worker_id).status

    scheduler._clock._expire_from = 0
    assert worker_after(20) == "idle"
    assert logged_by("orchestration.scheduler", caplog) == [
        "The scheduler was suspended or waited for 20 s; it expires no worker or lease for 10 s"
    ]
    for _ in range(10):
        assert worker_after(0.9) == "idle"
    assert worker_after(1.1) == "offline"


def test_failing_job_is_logged_once_and_the_other_jobs_run(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def rows(self, *_: object, **__: object) -> list[Stage]:
            raise IntegrityError("a faulty statement")

    start_late_run("late")
    monkeypatch.setattr(due_select, "DUE_RETRIES", Broken())
    scheduler = Scheduler()
    for _ in range(3):
        scheduler.run_once()
    assert status_of("late") == "timeout"
    assert logged_by("orchestration.scheduler", caplog) == [
        "Cannot run the job queue_retries; the scheduler tries again later, less and less often"
    ]


def test_unavailable_database_ends_the_pass_and_postpones_expiry(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduler = Scheduler()
    start_late_run("late")
    error = OperationalError("the connection is closed")

    def unavailable(*_: object, **__: object) -> bool:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(services, "record_scheduler_heartbeat", unavailable)
        assert [scheduler.run_once(), scheduler.run_once()] == [0, 0]
    assert status_of("late") == "running"
    scheduler.run_once()
    assert status_of("late") == "timeout"
    assert logged_by("orchestration.scheduler", caplog) == [
        f"Database unavailable ({error!r}); the scheduler keeps trying",
        "Database available again; the scheduler continues",
    ]
    assert SchedulerHeartbeat.objects.get().heartbeat_at is not None


def test_database_clock_that_is_set_forward_expires_no_worker(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.create_pool(pool_id="pool")
    worker_id = services.join_pool(name="alive", process="alive", pool_id="pool")
    start, wall_seconds, monotonic_seconds = database_now(), 0.0, 0.0
    monkeypatch.setattr(scheduler_module, "database_now", lambda: start + timedelta(seconds=wall_seconds))
    for module in (scheduler_module, clock_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: monotonic_seconds))
    scheduler = Scheduler()

    def worker_after_pass(*, heartbeat: bool) -> str:
        if heartbeat:
            heartbeat_at = start + timedelta(seconds=wall_seconds)
            Worker.objects.filter(pk=worker_id).update(heartbeat_at=heartbeat_at)
        scheduler.run_once()
        return Worker.objects.get(pk=worker_id).status

    assert worker_after_pass(heartbeat=True) == "idle"
    # The grace period of the start has passed, with passes in between.
    monotonic_seconds = wall_seconds = scheduler._clock._active_at = 1000.0
    assert worker_after_pass(heartbeat=True) == "idle"
    wall_seconds += 3600
    assert worker_after_pass(heartbeat=False) == "idle"
    assert logged_by("orchestration.scheduler", caplog) == [
        "The database clock advanced by 3600 s more than this machine's; "
        "the scheduler expires no worker or lease for 10 s"
    ]
    monotonic_seconds += 11
    wall_seconds += 11
    scheduler._clock._active_at = monotonic_seconds
    assert worker_after_pass(heartbeat=False) == "offline"


def test_timeout_of_a_workflow_that_has_just_finished_is_skipped(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, logger="orchestration.scheduler")
    start_late_run("late")
    late = Workflow.objects.get(pk="late")
    services.cancel_workflow(workflow_id="late")

    class Late:
        max_rows = 2

        def rows(self, *_: object, **__: object) -> list[Workflow]:
            return [late]

    monkeypatch.setattr(due_select, "LATE_WORKFLOWS", Late())
    assert Scheduler().time_out_workflows(timezone.now()) == 0
    assert logged_by("orchestration.scheduler", caplog) == [
        "Skipped a timeout: Workflow late has status cancelled and cannot become timeout; allowed: no other status."
    ]


@pytest.mark.parametrize(("heartbeat_age_seconds", "published"), [(4, 1), (60, 3)])
def test_metrics_are_throttled_unless_the_scheduler_has_stopped(
    monkeypatch: pytest.MonkeyPatch, settings: Settings, heartbeat_age_seconds: float, published: int
) -> None:
    settings.MAHAVISHNU_ENGINE = EngineLimits(pool_status_interval_seconds=60)
    services.create_pool(pool_id="pool")
    services.record_scheduler_heartbeat(alive=True)
    # A busy scheduler may be late by some seconds.
    SchedulerHeartbeat.objects.update(heartbeat_at=database_now() - timedelta(seconds=heartbeat_age_seconds))
    recorded = record_signals(monkeypatch)
    for number in range(3):
        services.join_pool(name=f"worker-{number}", process="process", pool_id="pool")
    assert names_and_ids(recorded).count(METRICS) == published


def test_scheduler_with_the_longest_interval_does_not_count_as_stopped() -> None:
    (field,) = [field for field in dataclasses.fields(EngineLimits) if field.name == "scheduler_interval_seconds"]
    assert 10 * max(field.metadata["maximum"], HEARTBEAT_SECONDS) <= SCHEDULER_TIMEOUT_SECONDS


def test_waits_that_expire_at_once_are_bounded_in_a_pass() -> None:
    wait = WaitPlan(kind="sleep", name="nap", timeout_seconds=1)
    plan = Plan(name="naps", adapter="python", stages=(StagePlan(name="nap", step=0, wait=wait),))
    worker_id = services.join_pool(name="w", process="w", pool_id="pool")
    slot = services.Slot(worker_id=worker_id, process="w")
    more = 5
    for number in range(due_select.MAX_ROWS_PER_PASS + more):
        run = services.start_run(plan, prompt="", params={}, pool_id="pool", workflow_id=f"wf_{number}")
        stage_id = run.stages.get().pk
        services.claim_stage(stage_id, 1, slot=slot)
        services.open_wait(stage_id, 1, slot=slot, wait=wait)
    Wait.objects.update(due_at=database_now() - timedelta(seconds=1))
    scheduler = Scheduler()
    scheduler.run_once()
    assert Wait.objects.filter(status="open").count() == more
    scheduler.run_once()
    assert set(Wait.objects.values_list("status", flat=True)) == {"expired"}
    assert set(Workflow.objects.values_list("status", flat=True)) == {"completed"}
