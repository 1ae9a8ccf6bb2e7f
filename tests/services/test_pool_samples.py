"""The samples of the counters of pools: who stores them, when, and how long they are kept."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from orchestration import services
from orchestration.models import POOL_COUNTERS, PoolSample
from orchestration.models.pool_sample import SAMPLE_AGE_SECONDS, SAMPLE_INTERVAL_SECONDS
from orchestration.scheduler.pool_sampler import PoolSampler
from orchestration.services import pool_samples

pytestmark = [pytest.mark.django_db, pytest.mark.both_databases]

AT = 1_800_000_000


def moment(unix_seconds: float) -> datetime:
    return datetime.fromtimestamp(unix_seconds, UTC)


def samples() -> list[tuple[str, int]]:
    return list(PoolSample.objects.order_by("unix_seconds", "pool_id").values_list("pool_id", "unix_seconds"))


def counters(pool_id: str) -> dict[str, Any]:
    return dict(PoolSample.objects.values(*POOL_COUNTERS).get(pool_id=pool_id))


def test_sample_has_the_counters_of_every_pool_that_is_not_closed() -> None:
    for pool_id in ("a", "b", "draining", "closed"):
        services.create_pool(pool_id=pool_id)
    services.drain_pool(pool_id="draining")
    services.close_pool(pool_id="closed")
    services.register_worker(worker_id="w", pool_id="a")
    services.create_workflow(workflow_id="wf", adapter="python", prompt="", stages=["one"], pool_id="b")
    services.start_workflow(workflow_id="wf")
    services.start_stage(workflow_id="wf", stage_name="one")
    services.complete_stage(workflow_id="wf", stage_name="one")
    assert services.sample_pools(AT) == 3
    assert samples() == [("a", AT), ("b", AT), ("draining", AT)]
    nothing = dict.fromkeys(POOL_COUNTERS, 0)
    assert counters("a") == {**nothing, "worker_count": 1, "idle_workers": 1}
    assert counters("b") == {**nothing, "tasks_completed": 1}


def test_first_sample_of_a_time_stays() -> None:
    services.create_pool(pool_id="a")
    assert services.sample_pools(AT) == 1
    services.register_worker(worker_id="w", pool_id="a")
    services.create_pool(pool_id="b")
    assert services.sample_pools(AT) == 1
    assert (counters("a")["worker_count"], samples()) == (0, [("a", AT), ("b", AT)])


def test_schedulers_sample_once_for_each_time_of_the_grid() -> None:
    services.create_pool(pool_id="a")
    first, second = PoolSampler(), PoolSampler()
    first.sample_pools(moment(AT + 3))
    assert samples() == [], "a time that has passed before the scheduler began is not sampled"
    second.sample_pools(moment(AT + 9.9))
    for seconds in (9.99, 10.0, 10.25, 19.9, 20.1, 47.0, 39.0):
        first.sample_pools(moment(AT + seconds))
        second.sample_pools(moment(AT + seconds))
    assert samples() == [("a", AT + seconds) for seconds in (10, 20, 30, 40)]


def test_failed_sample_is_not_taken_later(monkeypatch: pytest.MonkeyPatch) -> None:
    services.create_pool(pool_id="a")
    sampling = PoolSampler()
    sampling.sample_pools(moment(AT))
    with monkeypatch.context() as patch:
        patch.setattr(services, "sample_pools", lambda unix_seconds: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            sampling.sample_pools(moment(AT + 10))
    sampling.sample_pools(moment(AT + 19))
    sampling.sample_pools(moment(AT + 20))
    assert samples() == [("a", AT + 20)]


def test_old_samples_are_deleted_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_samples, "MAX_PRUNED_SAMPLES", 4)
    monkeypatch.setattr("orchestration.scheduler.pool_sampler.MAX_PRUNED_SAMPLES", 4)
    for pool_id in ("a", "b", "c"):
        services.create_pool(pool_id=pool_id)
    times = [AT + number * SAMPLE_INTERVAL_SECONDS for number in range(6)]
    for at in times:
        services.sample_pools(at)
    sampling = PoolSampler()
    sampling.sample_pools(moment(times[-1]))
    now = times[3] + SAMPLE_AGE_SECONDS
    kept = []
    for _ in range(3):
        sampling.sample_pools(moment(now))
        kept.append(len(samples()))
    # Three samples of each time: a block of four reaches two times. The newest are those of `now`.
    assert kept == [3 * 5, 3 * 4, 3 * 4]
    assert {at for _, at in samples()} == {*times[3:], now}
