"""Concurrent claims, ends and expiries of one attempt."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from orchestration import services
from orchestration.models import FailedAttempt, Stage, Worker
from orchestration.plan import Plan, Retry, StagePlan
from tests.models.counter_audit import assert_all_add_up
from tests.services.concurrency import ROUNDS, count_signals, run_concurrently
from tests.services.signal_recorder import RecordedSignal

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

LATER = datetime(9999, 1, 1, tzinfo=UTC)
"""By this time every lease and every heartbeat has expired."""


def start_attempt() -> tuple[int, services.Slot]:
    """Start the first of two attempts at a stage, and return the stage id and the slot."""
    plan = Plan(
        name="raced",
        adapter="python",
        stages=(StagePlan(name="one", step=0, retries=Retry(max_attempts=2, backoff_seconds=60)),),
    )
    stage = services.start_run(plan, prompt="", params={}, pool_id="pool", workflow_id="wf").stages.get()
    worker_id = services.join_pool(name="racer", process="racing", pool_id="pool")
    slot = services.Slot(worker_id=worker_id, process="racing")
    assert services.claim_stage(stage.pk, 1, slot=slot) is not None
    return stage.pk, slot


@pytest.mark.usefixtures("valkey")
@pytest.mark.parametrize("_", range(ROUNDS))
def test_concurrent_expiry_of_an_attempt_queues_one_retry(_: int, recorded: list[RecordedSignal]) -> None:
    stage_id, slot = start_attempt()
    changed = run_concurrently(
        lambda: services.expire_lease(stage_id, expired_before=LATER),
        lambda: services.expire_lease(stage_id, expired_before=LATER),
        lambda: services.expire_worker(slot.worker_id, no_heartbeat_since=LATER),
        lambda: services.expire_worker(slot.worker_id, no_heartbeat_since=LATER),
    )
    # The worker expires once. Its attempt is lost with it, or earlier by its lease.
    assert (sum(changed[:2]) <= 1, sum(changed[2:])) == (True, 1)
    assert count_signals(recorded, "stage_retrying") == 1
    stage, failed = Stage.objects.get(), FailedAttempt.objects.get()
    assert (stage.status, stage.attempt, failed.attempt, failed.reason) == ("queued", 1, 1, "lost")
    assert Worker.objects.get().status == "offline"
    assert_all_add_up()


@pytest.mark.usefixtures("valkey")
@pytest.mark.parametrize("_", range(ROUNDS))
def test_attempt_is_completed_or_expired_but_not_both(_: int, recorded: list[RecordedSignal]) -> None:
    stage_id, slot = start_attempt()
    completed, expired = run_concurrently(
        lambda: services.complete_attempt(stage_id, 1, slot=slot, output="done"),
        lambda: services.expire_lease(stage_id, expired_before=LATER),
    )
    assert completed.accepted is not expired
    sent = {name: count_signals(recorded, name) for name in ("stage_completed", "stage_retrying", "workflow_completed")}
    assert sent == {"stage_completed": not expired, "stage_retrying": expired, "workflow_completed": not expired}
    assert Stage.objects.get().status == ("queued" if expired else "completed")
    assert_all_add_up()


@pytest.mark.usefixtures("valkey")
@pytest.mark.parametrize("_", range(ROUNDS))
def test_concurrent_queue_retry_queues_once(_: int) -> None:
    stage_id, slot = start_attempt()
    services.fail_attempt(stage_id, 1, slot=slot, error="It broke")
    changed = run_concurrently(*[lambda: services.queue_retry(stage_id, due_before=LATER)] * 2)
    assert sorted(changed) == [False, True]
    assert Stage.objects.get().status == "queued"
    assert_all_add_up()


@pytest.mark.usefixtures("valkey")
@pytest.mark.parametrize("_", range(ROUNDS))
def test_concurrent_claims_of_an_attempt_succeed_once(_: int, recorded: list[RecordedSignal]) -> None:
    stage_id, first = start_attempt()
    services.expire_lease(stage_id, expired_before=LATER)
    second = services.Slot(
        worker_id=services.join_pool(name="second", process="racing", pool_id="pool"), process="racing"
    )
    recorded.clear()
    claims = run_concurrently(
        *[lambda slot=slot: services.claim_stage(stage_id, 2, slot=slot) for slot in (first, second)]
    )
    assert sorted(claim is None for claim in claims) == [False, True]
    assert count_signals(recorded, "stage_started") == 1
    # The first worker is in error until its next claim, because it lost an attempt.
    others = Worker.objects.exclude(status="busy")
    assert others.get().status == ("error" if claims[0] is None else "idle")
    assert_all_add_up()
