"""The outcome of a stage that has ended is recorded, however long another transaction holds a row."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest
from django.db import OperationalError, connection
from pytest_django import Settings

from orchestration import services
from orchestration.limits import EngineLimits
from orchestration.models import FailedAttempt, FailureReason, Pool, Stage
from orchestration.plan import Plan, StagePlan
from orchestration.sdk import HandOver
from orchestration.services import Claim, Slot
from orchestration.worker import child, executor, outcome
from orchestration.worker.slot_table import SharedSlot, SlotTable
from orchestration.worker.stage_result import Raised, Returned
from tests.harness.row_lock import limit_lock_waits, row_locked

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

LEASE_SECONDS = 0.2


@pytest.fixture(autouse=True)
def limits(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> EngineLimits:
    settings.MAHAVISHNU_ENGINE = limits = EngineLimits(lease_seconds=LEASE_SECONDS, shutdown_grace_seconds=0.05)
    limit_lock_waits(monkeypatch, seconds=0.05)
    return limits


def queued_stage() -> tuple[Stage, Slot]:
    plan = Plan(name="ended", adapter="python", stages=(StagePlan(name="one", step=0, timeout_seconds=60),))
    stage = services.start_run(plan, prompt="", params={}, pool_id="ended", workflow_id="ended").stages.get()
    return stage, Slot(worker_id=services.join_pool(name="ended", process="ended", pool_id="ended"), process="ended")


def claimed_stage() -> tuple[Claim, Slot]:
    stage, slot = queued_stage()
    claim = services.claim_stage(stage.pk, 1, slot=slot)
    assert claim is not None
    return claim, slot


def test_outcome_is_recorded_after_a_lock_that_outlasts_the_lease() -> None:
    claim, slot = claimed_stage()
    began = time.monotonic()
    with row_locked(Pool.objects.get()) as unlock:

        def unlock_late() -> bool:
            if time.monotonic() - began > LEASE_SECONDS:
                unlock()
            return False

        outcome.record_outcome(claim, slot, Returned("done"), continue_inline=False, is_expired=unlock_late)
    stage = Stage.objects.get()
    assert (stage.status, stage.attempt, stage.result and stage.result["output"]) == ("completed", 1, "done")


def test_outcome_is_given_up_when_the_grace_of_the_worker_is_over() -> None:
    claim, slot = claimed_stage()
    with row_locked(Pool.objects.get()), pytest.raises(OperationalError):
        outcome.record_outcome(claim, slot, Returned("done"), continue_inline=False, is_expired=lambda: True)
    connection.close()
    assert Stage.objects.get().status == "running"


def test_grace_is_over_some_time_after_the_shutdown(monkeypatch: pytest.MonkeyPatch, limits: EngineLimits) -> None:
    table = SlotTable()
    monkeypatch.setattr(child, "_child", child._Child(table=table, slot=table.slot(0), process="ended"))
    assert not child.is_grace_over()
    table.stopping_since_ns = time.monotonic_ns()
    assert not child.is_grace_over()
    table.stopping_since_ns -= int((limits.shutdown_grace_seconds + 1) * 1e9)
    assert child.is_grace_over()


def test_time_limit_does_not_apply_while_the_outcome_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, slot = queued_stage()
    shared_slot = SharedSlot()
    shared_slot.worker_id = slot.worker_id
    time_limits_ms: list[int] = []

    def note(*_: object, **__: object) -> None:
        assert shared_slot.running is not None
        time_limits_ms.append(shared_slot.running.timeout_ms)

    monkeypatch.setattr(executor, "find_missing", lambda stage: None)
    monkeypatch.setattr(executor, "run_stage", note)
    monkeypatch.setattr(executor, "record_outcome", note)
    executor.run_attempt(
        stage.pk,
        1,
        shared_slot=shared_slot,
        process=slot.process,
        is_stopping=lambda: False,
        is_shutting_down=lambda: False,
        is_grace_over=lambda: False,
    )
    assert time_limits_ms == [60_000, 0]


def run_raising(monkeypatch: pytest.MonkeyPatch, error: Exception, *, terminated: bool, stops_after: int) -> Stage:
    """Run a stage that raises in a worker that stops at that query of its state; 0 means never."""
    stage, slot = queued_stage()
    shared_slot = SharedSlot()
    shared_slot.worker_id = slot.worker_id
    has_raised, queries = False, 0

    def raise_error(*_: object, **__: object) -> Raised:
        nonlocal has_raised
        has_raised = True
        if terminated:
            os.kill(os.getpid(), signal.SIGTERM)
        return Raised(error)

    def stops() -> bool:
        nonlocal queries
        queries += has_raised
        return 0 < stops_after <= queries

    # A worker that stops does so at a query, however late that comes; one that never does is waited for.
    monkeypatch.setattr(executor, "_STOP_NOTICE_SECONDS", 30.0 if stops_after else 0.05)
    monkeypatch.setattr(executor, "find_missing", lambda stage: None)
    monkeypatch.setattr(executor, "run_stage", raise_error)
    never: Callable[[], bool] = lambda: False  # noqa: E731
    executor.run_attempt(
        stage.pk,
        1,
        shared_slot=shared_slot,
        process=slot.process,
        is_stopping=stops,
        is_shutting_down=stops,
        is_grace_over=never,
    )
    assert shared_slot.must_replace is terminated
    stage.refresh_from_db()
    return stage


@pytest.mark.parametrize(
    ("error", "terminated"),
    [(HandOver(), False), (HandOver(), True), (ValueError("ended"), False), (ValueError("ended"), True)],
    ids=lambda value: str(value) or type(value).__name__,
)
def test_attempt_that_a_stopping_worker_ends_is_released(
    monkeypatch: pytest.MonkeyPatch, error: Exception, terminated: bool
) -> None:
    # SIGTERM may arrive before the notice that the worker stops.
    stage = run_raising(monkeypatch, error, terminated=terminated, stops_after=3 if terminated else 1)
    assert (stage.status, stage.lost_attempts) == ("queued", 0)
    assert FailedAttempt.objects.get().reason == "released"


@pytest.mark.parametrize("error", [HandOver(), ValueError("ended")], ids=lambda error: type(error).__name__)
def test_attempt_whose_process_alone_got_sigterm_is_lost(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    stage = run_raising(monkeypatch, error, terminated=True, stops_after=0)
    assert (stage.status, stage.lost_attempts) == ("queued", 1)
    failed = FailedAttempt.objects.get()
    assert failed.reason == "lost"
    assert failed.error.startswith("The process of the stage got SIGTERM, but its worker did not stop: ")


def test_stage_that_hands_over_while_its_worker_continues_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = run_raising(monkeypatch, HandOver(), terminated=False, stops_after=0)
    assert (stage.status, stage.error) == (
        "failed",
        "The stage raised HandOver, but its worker does not stop. "
        "A stage can be handed over only while `ctx.stopping()` is True.",
    )
    assert FailedAttempt.objects.get().reason == "failed"


def test_attempts_lost_to_sigterm_are_limited(limits: EngineLimits) -> None:
    claim, slot = claimed_stage()
    for attempt in range(1, limits.max_lost_attempts + 2):
        assert services.release_attempt(
            claim.stage.pk, attempt, slot=slot, error="SIGTERM", reason=FailureReason.LOST
        ).accepted
        if attempt <= limits.max_lost_attempts:
            assert services.claim_stage(claim.stage.pk, attempt + 1, slot=slot) is not None
    stage = Stage.objects.get()
    assert (stage.status, stage.lost_attempts) == ("failed", limits.max_lost_attempts + 1)
