"""Create, drain, reopen and close pools."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command

from orchestration import services
from orchestration.models import Pool, StageStatus
from tests.models.counter_audit import assert_all_add_up, stored
from tests.services.builders import pool_with, stage_with, worker_with
from tests.services.signal_recorder import METRICS, RecordedSignal, names_and_ids

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

NOON = datetime(2026, 2, 10, 12, 0, 0, tzinfo=UTC)


def test_create_pool_stores_an_active_empty_pool(recorded: list[RecordedSignal]) -> None:
    pool = services.create_pool(pool_id="pool", at=NOON)
    for found in (pool, Pool.objects.get()):
        assert (found.id, found.status, found.created_at, found.updated_at) == ("pool", "active", NOON, NOON)
    assert set(stored("pool").values()) == {0}
    assert recorded == [RecordedSignal("pool_created", "pool", "active", NOON)]


def test_create_pool_rejects_an_existing_id(recorded: list[RecordedSignal]) -> None:
    pool_with()
    recorded.clear()
    with pytest.raises(services.AlreadyExists, match=r"^Pool pool already exists\.$"):
        services.create_pool(pool_id="pool")
    assert recorded == []


def test_drain_and_close_send_signals(recorded: list[RecordedSignal]) -> None:
    pool_with()
    recorded.clear()
    services.drain_pool(pool_id="pool", at=NOON)
    services.close_pool(pool_id="pool", at=NOON)
    assert recorded == [
        RecordedSignal("pool_drained", "pool", "draining", NOON),
        RecordedSignal("pool_closed", "pool", "closed", NOON),
    ]
    assert Pool.objects.get().updated_at == NOON


def test_reopened_pool_accepts_new_workflows(recorded: list[RecordedSignal]) -> None:
    pool_with("draining")
    recorded.clear()
    assert services.reopen_pool(pool_id="pool", at=NOON).status == "active"
    assert recorded == [RecordedSignal("pool_reopened", "pool", "active", NOON)]
    assert Pool.objects.get().updated_at == NOON
    services.create_workflow(adapter="python", prompt="", stages=["one"], pool_id="pool")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("pool", r"^--move-to pool: expected a pool other than the one to drain$"),
        ("nowhere", r"^Pool nowhere not found\.$"),
        ("closed", r"^Pool closed is closed and accepts no new workflows\.$"),
    ],
)
def test_drain_pool_command_rejects_an_invalid_target(target: str, reason: str) -> None:
    services.create_pool(pool_id="closed")
    services.close_pool(pool_id="closed")
    services.create_pool(pool_id="pool")
    with pytest.raises(CommandError, match=reason):
        call_command("drain_pool", "pool", "--move-to", target)
    assert Pool.objects.get(pk="pool").status == "active"


def test_reassign_workflows_rejects_an_unknown_pool() -> None:
    pool_with()
    with pytest.raises(services.ServiceError, match=r"^Pool nowhere not found\.$"):
        services.reassign_workflows(pool_id="pool", to_pool_id="nowhere")


def test_reopen_pool_command_rejects_a_closed_pool() -> None:
    pool_with("closed")
    reason = r"^Pool pool has status closed and cannot become active; allowed: no other status\.$"
    with pytest.raises(CommandError, match=reason):
        call_command("reopen_pool", "pool")


@pytest.mark.parametrize(("status", "queued", "running"), [(StageStatus.QUEUED, 1, 0), (StageStatus.RUNNING, 0, 1)])
def test_close_pool_rejects_a_pool_with_work(status: str, queued: int, running: int) -> None:
    stage_with(status)
    with pytest.raises(services.PoolNotEmpty) as error:
        services.close_pool(pool_id="pool")
    assert str(error.value) == (
        f"Pool pool has {queued} queued, {running} running and 0 waiting stages; it can be closed when it has none."
    )
    assert Pool.objects.get().status == "active"


def test_close_pool_accepts_a_pool_with_workers_but_no_work() -> None:
    stage_with(StageStatus.RUNNING)
    worker_with()
    services.complete_stage(workflow_id="wf", stage_name="one")
    assert services.close_pool(pool_id="pool").status == "closed"
    services.change_worker_status(worker_id="worker", status="offline")
    services.remove_worker(worker_id="worker")
    assert_all_add_up()


def test_unknown_pool_is_named() -> None:
    for change in (services.drain_pool, services.reopen_pool, services.close_pool):
        with pytest.raises(services.PoolNotFound, match=r"^Pool nowhere not found\.$"):
            change(pool_id="nowhere")


def test_stop_of_the_scheduler_publishes_throttled_metrics(recorded: list[RecordedSignal]) -> None:
    pool_with()
    services.create_pool(pool_id="quiet")
    services.record_scheduler_heartbeat(alive=True)
    Pool.objects.filter(pk="pool").update(metrics_dirty_since=NOON)
    recorded.clear()
    services.record_scheduler_heartbeat(alive=True)
    assert recorded == []
    services.record_scheduler_heartbeat(alive=False)
    assert names_and_ids(recorded) == [METRICS]
