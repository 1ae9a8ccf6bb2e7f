"""Rows and jobs of the scheduler that fail: the others are handled, and what stays stuck is reported."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from django.db import IntegrityError, OperationalError

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.models import SchedulerHeartbeat, Stage
from orchestration.scheduler import Scheduler, due_select, failures
from orchestration.scheduler.due_select import DueSelect, Sweep
from orchestration.scheduler.failures import MAX_PAUSE_SECONDS, STUCK_SECONDS, Job
from orchestration.scheduler.scheduler import HEARTBEAT_SECONDS, MAX_LOCK_WAITS_PER_JOB
from tests.harness.logs import logged_by
from tests.worker.scheduled_runs import MonotonicClock, start_late_run, start_run, start_run_with_due_retry, status_of

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


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
    clock = MonotonicClock(monkeypatch)
    scheduler = Scheduler()
    for _ in range(3):
        scheduler.run_once()
    assert Stage.objects.get(pk=good.pk).status == "queued"
    assert Stage.objects.get(pk=bad.pk).status == "pending"
    assert status_of("late") == "timeout"
    line = f"Cannot queue the retry of stage {bad.pk}; the scheduler tries again later, less and less often"
    assert logged_by("orchestration.scheduler", caplog) == [line]
    assert "IntegrityError: a constraint of the row" in caplog.text
    rejects_bad.clear()
    scheduler.run_once()
    assert Stage.objects.get(pk=bad.pk).status == "pending", "it is set aside"
    clock.advance(1)
    scheduler.run_once()
    assert Stage.objects.get(pk=bad.pk).status == "queued"
    Stage.objects.filter(pk=bad.pk).update(status="pending", retry_at=database_now())
    rejects_bad.append(True)
    scheduler.run_once()
    assert logged_by("orchestration.scheduler", caplog) == [line, line], "it failed again after it had succeeded"


def test_rows_that_always_fail_do_not_keep_others_from_their_turn(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More rows fail than a pass handles, and than failures are remembered."""
    monkeypatch.setattr(due_select, "DUE_RETRIES", DueSelect(Stage, "retry_at", max_rows=2))
    monkeypatch.setattr(failures, "MAX_FAILURES", 3)
    bad = [start_run_with_due_retry(f"bad_{number}").pk for number in range(6)]
    good = start_run_with_due_retry("good")
    Stage.objects.update(retry_at=database_now() - timedelta(seconds=1))
    queue_retry = services.queue_retry
    tried: list[int] = []

    def reject(stage_id: int, **arguments: object) -> bool:
        tried.append(stage_id)
        if stage_id in bad:
            raise IntegrityError("a constraint of the row")
        return queue_retry(stage_id, **arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(services, "queue_retry", reject)
    MonotonicClock(monkeypatch)
    scheduler = Scheduler()
    for _ in range(4):
        scheduler.run_once()
    assert Stage.objects.get(pk=good.pk).status == "queued"
    assert tried == [*bad, good.pk]
    scheduler.run_once()
    assert tried == [*bad, good.pk, *bad[3:5]], "the first three are set aside"
    assert [line.partition(";")[0] for line in logged_by("orchestration.scheduler", caplog)] == [
        *(f"Cannot queue the retry of stage {pk}" for pk in bad[:3]),
        f"Cannot queue the retry of stage {bad[3]} either (IntegrityError: a constraint of the row)",
    ]


def test_each_job_of_a_scheduler_has_a_name_and_each_name_a_job() -> None:
    assert [job.__name__ for job in Scheduler().jobs] == list(Job)


def test_sweep_ends_with_what_was_due_at_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = [start_run_with_due_retry(f"due_{number}") for number in range(4)]
    began = database_now()
    due_at = [began + timedelta(seconds=seconds) for seconds in (-2, -1, 1, 2)]
    for stage, retry_at in zip(stages, due_at, strict=True):
        Stage.objects.filter(pk=stage.pk).update(retry_at=retry_at)
    sweep = Sweep(DueSelect(Stage, "retry_at", max_rows=1))
    times = [began, *[began + timedelta(seconds=3)] * 3]
    pages = [[stage.pk for stage in sweep.next_page(now, without=())] for now in times]
    first, second, *_ = (stage.pk for stage in stages)
    assert pages == [[first], [second], [], [first]]


def test_job_that_stays_stuck_is_part_of_the_heartbeat(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = MonotonicClock(monkeypatch)
    bad = start_run_with_due_retry("bad")
    monkeypatch.setattr(services, "queue_retry", always_raising(IntegrityError("a constraint of the row")))
    scheduler = Scheduler()

    def stuck_jobs() -> str:
        clock.advance(HEARTBEAT_SECONDS)
        scheduler.run_once()
        return SchedulerHeartbeat.objects.get().stuck_jobs

    assert stuck_jobs() == ""
    clock.advance(STUCK_SECONDS)
    assert stuck_jobs() == "queue_retries"
    # The end of the run ends the problem too: the row is not due any longer.
    services.cancel_workflow(workflow_id=bad.workflow_id)
    clock.advance(2 * MAX_PAUSE_SECONDS)
    assert [stuck_jobs(), stuck_jobs()][1] == ""


def always_raising(error: Exception) -> Callable[..., bool]:
    def fail(*_: object, **__: object) -> bool:
        raise error

    return fail


def test_run_that_cannot_be_held_is_redispatched(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = start_run("unclaimed")
    due_at = database_now() - timedelta(seconds=1)
    Stage.objects.filter(pk=stage.pk).update(dispatch_due_at=due_at)
    monkeypatch.setattr(services, "hold_unclaimed", always_raising(IntegrityError("a constraint of the row")))
    Scheduler().run_once()
    stage.refresh_from_db()
    assert stage.dispatch_due_at is not None
    assert stage.dispatch_due_at > due_at


def lock_timeout() -> OperationalError:
    """Return the error of a statement of Postgres that waited too long for a lock."""
    error = OperationalError("canceling statement due to lock timeout")
    error.__cause__ = psycopg.errors.LockNotAvailable()
    return error


def test_locked_rows_end_a_pass_also_if_more_fail_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(MAX_LOCK_WAITS_PER_JOB + 1):
        start_run_with_due_retry(f"locked_{number}")
    monkeypatch.setattr(failures, "MAX_FAILURES", 1)
    tried: list[int] = []

    def wait_for_lock(stage_id: int, **_: object) -> bool:
        tried.append(stage_id)
        raise lock_timeout()

    monkeypatch.setattr(services, "queue_retry", wait_for_lock)
    Scheduler().run_once()
    assert len(tried) == MAX_LOCK_WAITS_PER_JOB


def test_locked_rows_delay_no_other_job(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = [start_run_with_due_retry(f"locked_{number}") for number in range(MAX_LOCK_WAITS_PER_JOB + 1)]
    start_late_run("late")
    monkeypatch.setattr(services, "queue_retry", always_raising(lock_timeout()))
    scheduler = Scheduler()
    scheduler.run_once()
    assert status_of("late") == "timeout"
    assert logged_by("orchestration.scheduler", caplog) == [
        f"Cannot queue the retry of stage {stage.pk} yet: another transaction holds a lock (OperationalError)"
        for stage in stages[:MAX_LOCK_WAITS_PER_JOB]
    ]
