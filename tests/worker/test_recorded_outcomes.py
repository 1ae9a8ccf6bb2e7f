"""The outcome of a stage that has ended is recorded, however long another transaction holds a row."""

from __future__ import annotations

import time

import pytest
from django.db import OperationalError, connection
from pytest_django import Settings

from orchestration import services
from orchestration.limits import EngineLimits
from orchestration.models import Pool, Stage
from orchestration.plan import Plan, StagePlan
from orchestration.services import Claim, Slot
from orchestration.worker import child, executor
from orchestration.worker.slot_table import SharedSlot, SlotTable
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

        executor.record_outcome(claim, slot, "done", continue_inline=False, is_expired=unlock_late)
    stage = Stage.objects.get()
    assert (stage.status, stage.attempt, stage.result and stage.result["output"]) == ("completed", 1, "done")


def test_outcome_is_given_up_when_the_grace_of_the_worker_is_over() -> None:
    claim, slot = claimed_stage()
    with row_locked(Pool.objects.get()), pytest.raises(OperationalError):
        executor.record_outcome(claim, slot, "done", continue_inline=False, is_expired=lambda: True)
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
