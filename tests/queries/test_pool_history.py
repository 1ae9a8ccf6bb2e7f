"""`get_pool_history`: samples of a pool, at most one in each step."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from orchestration import services
from orchestration.models import POOL_COUNTERS, Pool, PoolSample
from orchestration.models.pool_sample import SAMPLE_AGE_SECONDS, SAMPLE_INTERVAL_SECONDS
from realtime.limits import Limits
from realtime.protocol.requests import MAX_HISTORY_MINUTES, MAX_HISTORY_SAMPLES
from realtime.queries.pool_history import DEFAULT_SAMPLES, PoolHistoryQuery, step_seconds_for
from tests.harness.client import connect
from tests.harness.query_plans import explain
from tests.harness.server import MahavishnuServer

both_databases = pytest.mark.both_databases

AT = 1_800_000_000
"""A multiple of all steps in these tests."""

BEFORE = datetime.fromtimestamp(AT, UTC) - timedelta(days=2)


def sample(pool_id: str, times: Collection[int]) -> None:
    """Store samples whose queue size is the number of the sample."""
    zero = dict.fromkeys(POOL_COUNTERS, 0)
    PoolSample.objects.bulk_create(
        PoolSample(pool_id=pool_id, unix_seconds=at, **{**zero, "queue_size": number})
        for number, at in enumerate(times)
    )


def history(*, minutes: int, step_seconds: int, now: float, created_at: datetime = BEFORE) -> list[tuple[int, int]]:
    """Return the times and the queue sizes of the samples."""
    query = PoolHistoryQuery(pool_id="a", minutes=minutes, step_seconds=step_seconds)
    found = query.rows(now=datetime.fromtimestamp(now, UTC), created_at=created_at)
    queue_size = 1 + POOL_COUNTERS.index("queue_size")
    return [(row[0] - AT, row[queue_size]) for row in found]


@both_databases
@pytest.mark.django_db
def test_history_has_the_last_sample_of_each_step() -> None:
    sample("a", range(AT, AT + 120, 10))
    sample("b", range(AT, AT + 120, 10))
    assert history(minutes=1, step_seconds=10, now=AT + 65) == [(at, at // 10) for at in range(10, 70, 10)]
    assert history(minutes=1, step_seconds=30, now=AT + 65) == [(50, 5), (80, 8)]
    assert history(minutes=2, step_seconds=60, now=AT + 119.9) == [(50, 5), (110, 11)]
    # A step that is longer than the history.
    assert history(minutes=1, step_seconds=3600, now=AT + 119.9) == [(110, 11)]


@both_databases
@pytest.mark.django_db
def test_history_has_gaps_where_no_sample_was_stored() -> None:
    sample("a", [AT, AT + 20, AT + 90])
    assert history(minutes=2, step_seconds=10, now=AT + 110) == [(0, 0), (20, 1), (90, 2)]
    assert history(minutes=2, step_seconds=30, now=AT + 110) == [(20, 1), (90, 2)]


@pytest.mark.django_db
def test_samples_of_a_removed_pool_with_the_same_id_are_left_out() -> None:
    sample("a", range(AT, AT + 60, 10))
    created_at = datetime.fromtimestamp(AT + 35, UTC)
    assert [at for at, _ in history(minutes=1, step_seconds=10, now=AT + 59, created_at=created_at)] == [40, 50]


@pytest.mark.parametrize(
    ("minutes", "wanted", "expected"),
    [
        (60, None, 10),
        (61, None, 20),
        (MAX_HISTORY_MINUTES, None, 240),
        (1, 10, 10),
        (60, 11, 20),
        (60, 86_400, 86_400),
        (240, 10, 10),
        (241, 10, 20),
        (MAX_HISTORY_MINUTES, 10, 60),
    ],
)
def test_step_is_on_the_grid_and_bounds_the_samples(minutes: int, wanted: int | None, expected: int) -> None:
    assert step_seconds_for(minutes, wanted) == expected


def test_every_history_is_bounded_and_covers_what_is_kept() -> None:
    assert MAX_HISTORY_MINUTES * 60 == SAMPLE_AGE_SECONDS
    for minutes in range(1, MAX_HISTORY_MINUTES + 1):
        for wanted, most in ((None, DEFAULT_SAMPLES), (10, MAX_HISTORY_SAMPLES), (47, MAX_HISTORY_SAMPLES)):
            step = step_seconds_for(minutes, wanted)
            assert step % SAMPLE_INTERVAL_SECONDS == 0
            assert minutes * 60 <= step * most


@pytest.mark.django_db
@pytest.mark.parametrize("step_seconds", [10, 60])
def test_history_is_read_through_the_key(step_seconds: int) -> None:
    query = PoolHistoryQuery(pool_id="1", minutes=1, step_seconds=step_seconds)
    plan = explain(str(query.rows(now=datetime.fromtimestamp(AT, UTC), created_at=BEFORE).query))
    reads = [step for step in plan.split("; ") if "orchestration_poolsample" in step]
    assert reads
    assert [step for step in reads if "(pool_id=? AND unix_seconds" not in step] == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("valkey")
def test_read_has_the_counters_and_the_cost() -> None:
    services.create_pool(pool_id="a")
    Pool.objects.update(created_at=timezone.now() - timedelta(days=2))
    services.register_worker(worker_id="w", pool_id="a")
    at = int(time.time()) // SAMPLE_INTERVAL_SECONDS * SAMPLE_INTERVAL_SECONDS
    services.sample_pools(at)
    found = PoolHistoryQuery(pool_id="a", minutes=30, step_seconds=10).read(Limits())
    assert found is not None
    zero = dict.fromkeys(POOL_COUNTERS, 0)
    assert json.loads(found.samples) == [
        {
            **zero,
            "at": datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z"),
            "worker_count": 1,
            "idle_workers": 1,
        }
    ]
    assert found.cost_bytes == len(found.samples) + 16 * 30 * 6
    assert PoolHistoryQuery(pool_id="b", minutes=30, step_seconds=10).read(Limits()) is None
    assert PoolHistoryQuery(pool_id="no id!", minutes=30, step_seconds=10).read(Limits()) is None


async def test_client_receives_the_history(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    pool_id = unique("pool")
    server.services.create_pool(pool_id=pool_id)

    async def ask(**data: Any) -> dict[str, Any]:
        answer: dict[str, Any] = await client.request("get_pool_history", **data)
        return answer

    async with connect(server) as client:
        await client.subscribe("global")
        answer = (await ask(pool_id=pool_id))["data"]
        assert (answer["pool_id"], answer["step_seconds"], answer["samples"]) == (pool_id, 10, [])
        assert answer["epoch"] == client.welcome["data"]["epoch"]
        assert (await ask(pool_id=unique("none")))["error_code"] == "NOT_FOUND"
        for invalid in ({"minutes": 0}, {"minutes": 1441}, {"step_seconds": 9}, {"step_seconds": 86_401}):
            assert (await ask(pool_id=pool_id, **invalid))["error_code"] == "INVALID_MESSAGE"
