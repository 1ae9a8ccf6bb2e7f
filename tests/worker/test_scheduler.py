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

from orchestration import scheduler as scheduler_module
from orchestration import services
from orchestration.db.clock import database_now
from orchestration.limits import EngineLimits
from orchestration.models import Pool, SchedulerHeartbeat, Stage, Worker, Workflow
from orchestration.plan import Plan, Retry, StagePlan
from orchestration.scheduler import HEARTBEAT_SECONDS, Scheduler
from orchestration.services.pool_metrics import SCHEDULER_TIMEOUT_SECONDS
from tests.harness.logs import logged_by
from tests.services.signal_recorder import METRICS, names_and_ids, record_signals

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def start_run(workflow_id: str, *, pool_id: str = "pool", timeout_seconds: float | None = None) -> Stage:
    """Start a run of one stage with two attempts, and return the stage."""
    plan = Plan(
        name="scheduled",
        adapter="python",
        stages=(StagePlan(name="one", step=0, retries=Retry(max_attempts=2, backoff_seconds=60)),),
        timeout_seconds=timeout_seconds,
    )
    return services.start_run(plan, prompt="", params={}, pool_id=pool_id, workflow_id=workflow_id).stages.get()


def start_run_with_due_retry(workflow_id: str) -> Stage:
    """Start a run whose first attempt has failed and whose retry is due now."""
    stage = start_run(workflow_id)
    worker_id = services.join_pool(name=workflow_id, process=workflow_id, pool_id="pool")
    slot = services.Slot(worker_id=worker_id, process=workflow_id)
    assert services.claim_stage(stage.pk, 1, slot=slot) is not None
    services.fail_attempt(stage.pk, 1, slot=slot, error="It broke")
    Stage.objects.filter(pk=stage.pk).update(retry_at=database_now() - timedelta(seconds=1))
    return stage


def start_late_run(workflow_id: str) -> None:
    """Start a run whose deadline has passed."""
    start_run(workflow_id, pool_id="other", timeout_seconds=60)
    Workflow.objects.filter(pk=workflow_id).update(deadline_at=database_now() - timedelta(seconds=1))


def status_of(workflow_id: str) -> str:
    return Workflow.objects.get(pk=workflow_id).status


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


def test_failing_row_is_logged_once_and_the_other_rows_and_jobs_run(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = start_run_with_due_retry("bad"), start_run_with_due_retry("good")
    start_late_run("late")
    queue_retry = services.queue_retry
    rejects_bad = [True]

    def reject_one(stage_id: int, **arguments: object) -> bool:
        if stage_id == bad.pk and rejects_bad:
            raise IntegrityError("a constraint of the row")
        return queue_retry(stage_id, **arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(services, "queue_retry", reject_one)
    scheduler = Scheduler()
    for _ in range(3):
        scheduler.run_once()
    assert Stage.objects.get(pk=good.pk).status == "queued"
    assert Stage.objects.get(pk=bad.pk).status == "pending"
    assert status_of("late") == "timeout"
    line = f"Cannot queue the retry of stage {bad.pk}; the scheduler tries again in each pass"
    assert logged_by("orchestration.scheduler", caplog) == [line]
    assert "IntegrityError: a constraint of the row" in caplog.text
    rejects_bad.clear()
    scheduler.run_once()
    assert Stage.objects.get(pk=bad.pk).status == "queued"
    Stage.objects.filter(pk=bad.pk).update(status="pending", retry_at=database_now())
    rejects_bad.append(True)
    scheduler.run_once()
    assert logged_by("orchestration.scheduler", caplog) == [line, line], "it failed again after it had succeeded"


def test_failing_job_is_logged_once_and_the_other_jobs_run(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def rows(self, *_: object) -> list[Stage]:
            raise IntegrityError("a faulty statement")

    start_late_run("late")
    monkeypatch.setattr(scheduler_module, "_DUE_RETRIES", Broken())
    scheduler = Scheduler()
    for _ in range(3):
        scheduler.run_once()
    assert status_of("late") == "timeout"
    assert logged_by("orchestration.scheduler", caplog) == [
        "Cannot run the job queue_retries; the scheduler tries again in each pass"
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
    monkeypatch.setattr(scheduler_module, "time", SimpleNamespace(monotonic=lambda: monotonic_seconds))
    scheduler = Scheduler()

    def worker_after_pass(*, heartbeat: bool) -> str:
        if heartbeat:
            heartbeat_at = start + timedelta(seconds=wall_seconds)
            Worker.objects.filter(pk=worker_id).update(heartbeat_at=heartbeat_at)
        scheduler.run_once()
        return Worker.objects.get(pk=worker_id).status

    assert worker_after_pass(heartbeat=True) == "idle"
    monotonic_seconds = wall_seconds = 1000.0  # The grace period of the start has passed.
    assert worker_after_pass(heartbeat=True) == "idle"
    wall_seconds += 3600
    assert worker_after_pass(heartbeat=False) == "idle"
    assert logged_by("orchestration.scheduler", caplog) == [
        "The database clock advanced by 3600 s more than this machine's; "
        "the scheduler expires no worker or lease for 10 s"
    ]
    monotonic_seconds += 11
    wall_seconds += 11
    assert worker_after_pass(heartbeat=False) == "offline"


def test_timeout_of_a_workflow_that_has_just_finished_is_skipped(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG, logger=scheduler_module.__name__)
    start_late_run("late")
    late = Workflow.objects.get(pk="late")
    services.cancel_workflow(workflow_id="late")

    class Late:
        def rows(self, *_: object) -> list[Workflow]:
            return [late]

    monkeypatch.setattr(scheduler_module, "_LATE_WORKFLOWS", Late())
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
