"""The broker holds a window of the messages of a wide run, as wide as its pool."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.dispatch import queued_messages
from orchestration.limits import engine_limits
from orchestration.models import Pool, Stage, StageStatus, Workflow
from orchestration.scheduler import Scheduler
from orchestration.services.dispatch_window import (
    MAX_NARROW_STAGES,
    MAX_REFILL_MESSAGES,
    MIN_WINDOW_MESSAGES,
    window_size,
)
from tests.models.counter_audit import assert_all_add_up
from tests.services.broker_worker import take_messages
from tests.services.concurrency import ROUNDS, run_concurrently
from tests.services.wide_runs import WIDTH, dispatched, is_marked, join_workers, parts, start_run

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def test_window_has_room_for_every_slot_and_is_bounded() -> None:
    assert [window_size(slots) for slots in (0, 1, 2, 3, 64, 512)] == [2, 2, 4, 6, 128, 576]


def test_wide_step_is_queued_as_a_whole_and_dispatched_in_part(pool_id: str) -> None:
    start_run(pool_id)
    assert dispatched() == parts(0, 1)
    assert Stage.objects.filter(status=StageStatus.QUEUED).count() == Pool.objects.get().queue_size == WIDTH
    assert queued_messages(pool_id) == MIN_WINDOW_MESSAGES
    assert is_marked()
    assert_all_add_up()


def test_narrow_step_is_dispatched_without_further_statements(pool_id: str) -> None:
    with CaptureQueriesContext(connection) as narrow:
        start_run(pool_id, workflow_id="narrow", width=1)
    with CaptureQueriesContext(connection) as widest:
        start_run(pool_id, width=MAX_NARROW_STAGES)
    assert len(widest) == len(narrow)
    assert queued_messages(pool_id) == 1 + MAX_NARROW_STAGES
    assert not is_marked()
    (worker,) = join_workers(pool_id, 1)
    assert [stage.name for stage in worker.run_all()] == ["part_0", *parts(0, 1, 2, 3), "last", "last"]


@pytest.mark.parametrize("slots", [1, 2, 3, 7])
@pytest.mark.parametrize("before", [0, 1])
def test_run_completes_by_its_claims_within_its_window(pool_id: str, slots: int, before: int) -> None:
    workers = join_workers(pool_id, slots)
    start_run(pool_id, before=before)
    ran: list[str] = []
    while claims := [(worker, claim) for worker in workers if (claim := worker.take()) is not None]:
        held = queued_messages(pool_id)
        assert held is not None
        assert held == len(dispatched()) <= window_size(slots)
        # Each slot finds a message when it is free, as long as stages wait.
        assert held >= min(slots, Stage.objects.filter(status=StageStatus.QUEUED).count())
        for worker, claim in claims:
            ran.append(claim.stage.name)
            worker.complete(claim)
    assert ran == [*(f"before_{number}" for number in range(before)), *parts(*range(WIDTH)), "last"]
    assert (Workflow.objects.get().status, is_marked()) == ("completed", False)
    assert_all_add_up()


def test_inline_continuation_starts_a_wide_step(pool_id: str) -> None:
    first, second = join_workers(pool_id, 2)
    start_run(pool_id, before=1)
    claim = first.take()
    assert claim is not None
    claim = first.complete(claim, continue_inline=True)
    assert claim is not None
    assert claim.stage.name == "part_0"
    assert dispatched() == parts(1, 2, 3, 4)
    assert Pool.objects.get().queue_size == WIDTH - 1
    assert [stage.name for stage in second.run_all()] == parts(*range(1, WIDTH))
    first.complete(claim)
    assert [stage.name for stage in second.run_all()] == ["last"]


def test_short_run_starts_soon_behind_a_wide_one(pool_id: str) -> None:
    workers = join_workers(pool_id, 2)
    start_run(pool_id, width=200)
    start_run(pool_id, workflow_id="short", width=1)
    ran = [stage for _ in range(5) for worker in workers if (stage := worker.run_next()) is not None]
    assert [stage.workflow_id for stage in ran][: window_size(2) + 1].count("short") == 1
    assert Workflow.objects.get(pk="short").status == "completed"


def test_wide_runs_share_their_pool(pool_id: str) -> None:
    workers = join_workers(pool_id, 3)
    for name in ("one", "two", "three"):
        start_run(pool_id, workflow_id=name, width=100)
    ran = Counter(stage.workflow_id for _ in range(30) for worker in workers if (stage := worker.run_next()))
    assert sum(ran.values()) == 90
    assert all(abs(count - 30) <= window_size(3) for count in ran.values()), ran


def test_scheduler_fills_windows_when_slots_join(pool_id: str) -> None:
    start_run(pool_id, width=400)
    scheduler, now = Scheduler(), database_now()
    assert scheduler.refill_windows(now) == 0
    join_workers(pool_id, 100)
    refills = [scheduler.refill_windows(now) for _ in range(3)]
    assert refills == [MAX_REFILL_MESSAGES, MAX_REFILL_MESSAGES, 0]
    assert queued_messages(pool_id) == len(dispatched()) == MIN_WINDOW_MESSAGES + 2 * MAX_REFILL_MESSAGES
    with CaptureQueriesContext(connection) as queries:
        scheduler.refill_windows(now)
    assert len(queries) == 1, "no window is to be filled: one query and no write"


def test_window_shrinks_when_slots_leave(pool_id: str) -> None:
    workers = join_workers(pool_id, 10)
    start_run(pool_id, width=100)
    assert len(dispatched()) == 20
    for worker in workers[1:]:
        services.leave_pool(worker_id=worker.slot.worker_id, process=worker.slot.process, error="It was stopped")
    sizes = []
    for _ in range(25):
        assert workers[0].run_next() is not None
        sizes.append(len(dispatched()))
    assert sizes[:20] == [*range(19, 0, -1), MIN_WINDOW_MESSAGES]
    assert max(sizes[19:]) == MIN_WINDOW_MESSAGES


def test_redispatch_expects_messages_only_of_dispatched_stages(pool_id: str) -> None:
    join_workers(pool_id, 2)
    start_run(pool_id)
    scheduler, now = Scheduler(), database_now() + timedelta(seconds=engine_limits().redispatch_seconds)
    assert scheduler.redispatch(now) == 0
    assert queued_messages(pool_id) == window_size(2)
    assert len(take_messages(pool_id, at_most=3)) == 3
    assert scheduler.redispatch(now + timedelta(seconds=engine_limits().redispatch_seconds)) == 3
    assert queued_messages(pool_id) == window_size(2) == len(dispatched())


def test_redispatch_expects_no_messages_of_external_orchestrators(pool_id: str) -> None:
    services.create_workflow(workflow_id="external", adapter="other", prompt="", stages=["one"], pool_id=pool_id)
    services.start_workflow(workflow_id="external")
    services.queue_stage(workflow_id="external", stage_name="one")
    start_run(pool_id, width=1)
    assert Scheduler().redispatch(database_now() + timedelta(seconds=engine_limits().redispatch_seconds)) == 0
    assert queued_messages(pool_id) == len(dispatched()) == 1


@pytest.mark.parametrize("_", range(ROUNDS))
def test_concurrent_claims_and_refills_dispatch_each_stage_once(_: int, pool_id: str) -> None:
    workers = join_workers(pool_id, 3)
    start_run(pool_id)
    sent = Counter(take_messages(pool_id, at_most=WIDTH))
    claims = [
        lambda worker=worker, message=message: services.claim_stage(*message, slot=worker.slot)
        for worker, message in zip(workers, sent, strict=False)
    ]
    run_concurrently(*claims, lambda: services.refill_window("wide"), lambda: services.refill_window("wide"))
    sent.update(take_messages(pool_id, at_most=WIDTH))
    assert max(sent.values()) == 1
    unclaimed = set(Stage.objects.filter(name__in=dispatched()).values_list("pk", flat=True))
    assert unclaimed <= {stage_id for stage_id, _ in sent}
    assert 3 <= len(unclaimed) <= window_size(3)
    assert_all_add_up()
