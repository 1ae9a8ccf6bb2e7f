"""What a page of pools or of workers has, and that it examines a bounded part of an index."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from orchestration.models import Pool, Stage, Worker, Workflow
from realtime.eventlog.position import current_position
from realtime.limits import Limits
from realtime.protocol.cursors import decode_id_cursor
from realtime.queries import pool_pages
from realtime.queries.pages import EXAMINED_ROW_BYTES, Page
from realtime.queries.pool_pages import PoolQuery, WorkerQuery
from realtime.queries.snapshots import read_snapshot
from tests.harness.query_plans import collect_statistics, explain

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

WINDOW = 20


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_pages, "MAX_EXAMINED_ROWS", WINDOW)
    current_position()  # Create the log.


def pools(*, statuses: tuple[str, ...] = (), after: str | None = None, limit: int = 100) -> Page:
    return PoolQuery(statuses=statuses, after=after, limit=limit).read(Limits())


def workers(
    *, pool_id: str | None = None, statuses: tuple[str, ...] = (), after: str | None = None, limit: int = 100
) -> Page:
    return WorkerQuery(pool_id=pool_id, statuses=statuses, after=after, limit=limit).read(Limits())


def pages(read: Callable[..., Page], **options: Any) -> Iterator[Page]:
    page = read(**options)
    yield page
    while page.next_cursor is not None:
        page = read(after=decode_id_cursor(page.next_cursor), **options)
        yield page


def ids(found: Iterator[Page] | list[Page]) -> list[str]:
    return [row.get("worker_id", row["pool_id"]) for page in found for row in json.loads(page.rows)]


def store_workers(count: int) -> None:
    Pool.objects.bulk_create(Pool(id=pool_id) for pool_id in ("a", "b"))
    Worker.objects.bulk_create(
        Worker(id=f"w{n:02}", pool_id="a" if n % 10 == 3 else "b", status="offline" if n % 25 else "idle")
        for n in range(count)
    )


def test_pages_have_every_worker_once_in_the_order_of_ids() -> None:
    store_workers(60)
    every = [f"w{n:02}" for n in range(60)]
    found = list(pages(workers, limit=25))
    assert ids(found) == every
    assert [page.next_cursor is None for page in found] == [False, False, True]
    assert found[0].cost_bytes == len(found[0].rows) - 26 + EXAMINED_ROW_BYTES * 26
    assert ids(pages(workers, pool_id="a", limit=2)) == every[3::10]
    assert ids(pages(workers, pool_id="nowhere")) == []
    idle = list(pages(workers, statuses=("idle",)))
    assert ids(idle) == ["w00", "w25", "w50"]
    # The last one has examined all that are left, and does not know it.
    assert [(len(json.loads(page.rows)), page.next_cursor is None) for page in idle] == [
        (1, False),
        (1, False),
        (1, False),
        (0, True),
    ]
    assert ids(pages(workers, statuses=("idle", "offline"), limit=7)) == every


def test_worker_is_the_state_of_its_snapshot() -> None:
    store_workers(1)
    Workflow.objects.create(id="wf", adapter="python")
    stage = Stage.objects.create(workflow_id="wf", name="only", position=0)
    Worker.objects.filter(pk="w00").update(stage=stage)
    (worker,) = json.loads(workers().rows)
    assert (worker["workflow_id"], worker["stage_name"]) == ("wf", "only")
    assert list(worker) == list(read_snapshot("worker:w00", max_bytes=1000) or {})


def test_pages_have_every_pool_once_with_its_time_of_creation() -> None:
    Pool.objects.bulk_create(Pool(id=f"p{n:02}", status="closed" if n % 12 else "active") for n in range(30))
    every = [f"p{n:02}" for n in range(30)]
    assert ids(pages(pools, limit=10)) == every
    assert ids(pages(pools, statuses=("active",))) == ["p00", "p12", "p24"]
    first = json.loads(pools().rows)[0]
    assert list(first) == ["pool_id", "status", "metrics", "created_at"]


# How the plans name a range of the index.
RANGE = {
    "sqlite": "orchestration_worker_listed (pool_id=? AND id>?)",
    "postgresql": "orchestration_worker_listed",
}


def test_workers_of_a_pool_are_a_range_of_an_index() -> None:
    store_workers(60)
    collect_statistics()
    with CaptureQueriesContext(connection) as captured:
        workers(pool_id="a", statuses=("idle",), after="w10")
    examined, *_ = (query["sql"] for query in captured if '"orchestration_worker"' in query["sql"])
    with transaction.atomic():
        plan = explain(examined)
    assert RANGE[connection.vendor] in plan
    assert "TEMP B-TREE" not in plan
    assert '"Sort"' not in plan
