"""Register and remove workers, and change their status."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from orchestration import services
from orchestration.models import Worker, WorkerStatus
from orchestration.services import worker_lifecycle
from tests.models.counter_audit import assert_all_add_up, stored
from tests.services.builders import pool_with, worker_with
from tests.services.signal_recorder import RecordedSignal

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

NOON = datetime(2026, 2, 10, 12, 0, 0, tzinfo=UTC)


def test_register_worker_adds_an_idle_worker(recorded: list[RecordedSignal]) -> None:
    pool_with()
    recorded.clear()
    worker = services.register_worker(worker_id="worker", pool_id="pool", at=NOON)
    for found in (worker, Worker.objects.get()):
        assert (found.id, found.pool_id, found.status) == ("worker", "pool", "idle")
        assert found.registered_at == found.status_changed_at == found.last_heartbeat_at == NOON
    assert recorded == [
        RecordedSignal("worker_added", "worker", "idle", NOON),
        RecordedSignal("pool_metrics_changed", "pool", "active", NOON),
    ]
    assert (stored("pool")["worker_count"], stored("pool")["idle_workers"]) == (1, 1)


@pytest.mark.parametrize("status", ["busy", "error", "offline"])
def test_register_worker_again_sets_it_idle(status: str, recorded: list[RecordedSignal]) -> None:
    worker_with(status)
    recorded.clear()
    worker = services.register_worker(worker_id="worker", pool_id="pool", at=NOON)
    assert (worker.status, worker.registered_at, worker.status_changed_at) == ("idle", NOON, NOON)
    assert recorded == [
        RecordedSignal("worker_status_changed", "worker", "idle", NOON),
        RecordedSignal("pool_metrics_changed", "pool", "active", NOON),
    ]
    assert_all_add_up()


def test_register_idle_worker_again_sends_no_signal(recorded: list[RecordedSignal]) -> None:
    worker_with()
    recorded.clear()
    worker = services.register_worker(worker_id="worker", pool_id="pool", at=NOON)
    assert worker.registered_at == Worker.objects.get().registered_at == NOON
    assert worker.status_changed_at != NOON
    assert recorded == []
    assert_all_add_up()


def test_register_worker_in_another_pool_is_rejected() -> None:
    worker_with()
    pool_with(pool_id="elsewhere")
    with pytest.raises(services.WorkerInOtherPool) as error:
        services.register_worker(worker_id="worker", pool_id="elsewhere")
    assert str(error.value) == "Worker worker belongs to pool pool, not to pool elsewhere."
    assert_all_add_up()


def test_closed_pool_accepts_no_workers() -> None:
    pool_with("closed")
    with pytest.raises(services.PoolNotAccepting, match=r"^Pool pool is closed and accepts no workers\.$"):
        services.register_worker(worker_id="worker", pool_id="pool")
    assert not Worker.objects.exists()


def test_draining_pool_accepts_workers() -> None:
    pool_with("draining")
    assert services.register_worker(worker_id="worker", pool_id="pool").status == WorkerStatus.IDLE


def test_register_worker_names_an_unknown_pool() -> None:
    with pytest.raises(services.PoolNotFound, match=r"^Pool nowhere not found\.$"):
        services.register_worker(worker_id="worker", pool_id="nowhere")
    assert not Worker.objects.exists()


@pytest.mark.parametrize(
    ("status", "counters"),
    [
        ("idle", {"active_workers": 0, "idle_workers": 1, "error_workers": 0}),
        ("busy", {"active_workers": 1, "idle_workers": 0, "error_workers": 0}),
        ("error", {"active_workers": 0, "idle_workers": 0, "error_workers": 1}),
        ("offline", {"active_workers": 0, "idle_workers": 0, "error_workers": 0}),
    ],
)
def test_each_worker_status_has_its_counter(status: str, counters: dict[str, int]) -> None:
    worker_with(status)
    assert counters.items() <= stored("pool").items()
    assert stored("pool")["worker_count"] == 1


def test_change_worker_status_sends_a_signal_with_its_time(recorded: list[RecordedSignal]) -> None:
    worker_with()
    recorded.clear()
    worker = services.change_worker_status(worker_id="worker", status="busy", at=NOON)
    assert worker.status_changed_at == worker.last_heartbeat_at == NOON
    assert recorded == [
        RecordedSignal("worker_status_changed", "worker", "busy", NOON),
        RecordedSignal("pool_metrics_changed", "pool", "active", NOON),
    ]


def test_offline_status_is_not_a_heartbeat() -> None:
    pool_with()
    services.register_worker(worker_id="worker", pool_id="pool", at=NOON)
    worker = services.change_worker_status(worker_id="worker", status="offline", at=NOON + timedelta(seconds=5))
    assert worker.last_heartbeat_at == NOON


def test_change_worker_status_rejects_an_unknown_status() -> None:
    worker_with()
    with pytest.raises(services.InvalidArgument) as error:
        services.change_worker_status(worker_id="worker", status="asleep")
    assert str(error.value) == "status is 'asleep'; expected one of idle, busy, error, offline."


@pytest.mark.parametrize("status", WorkerStatus.values)
def test_remove_worker_sends_a_signal_and_updates_the_counters(status: str, recorded: list[RecordedSignal]) -> None:
    worker_with(status)
    recorded.clear()
    worker = services.remove_worker(worker_id="worker", at=NOON)
    assert (worker.id, worker.status) == ("worker", status)
    assert recorded == [
        RecordedSignal("worker_removed", "worker", status, NOON),
        RecordedSignal("pool_metrics_changed", "pool", "active", NOON),
    ]
    assert set(stored("pool").values()) == {0}


def test_unknown_worker_is_named() -> None:
    with pytest.raises(services.WorkerNotFound, match=r"^Worker missing not found\.$"):
        services.remove_worker(worker_id="missing")
    with pytest.raises(services.WorkerNotFound, match=r"^Worker missing not found\.$"):
        services.change_worker_status(worker_id="missing", status="idle")


def test_join_pool_uses_every_number_before_it_rejects_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_lifecycle, "MAX_WORKER_NUMBER", 2)
    joined = [services.join_pool(name="box", process="process", pool_id="pool") for _ in range(2)]
    assert joined == ["box-1", "box-2"]
    with pytest.raises(services.NoFreeWorkerId) as error:
        services.join_pool(name="box", process="process", pool_id="pool")
    assert str(error.value) == ("The worker ids box-1 to box-2 are in use; one is free when its worker is offline.")
