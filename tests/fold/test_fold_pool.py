"""What each event changes in the state of a worker, and of a pool."""

from __future__ import annotations

from typing import Any

import pytest

from mahavishnu_client.fold import fold
from mahavishnu_client.state import Pool, PoolMetrics, Worker
from tests.fold.states import METRICS, NOW, ClientEvent, event, pool, worker

BUSY: dict[str, Any] = {"status": "busy", "release": "2", "draining": True, "workflow_id": "wf", "stage_name": "s0"}
IS_BUSY = worker("w", **{**BUSY, "status_changed_at": NOW})
NEXT: dict[str, Any] = {"workflow_id": "wf", "stage_name": "s1"}


def test_added_worker() -> None:
    added = fold("worker:w", None, event("worker.added", **BUSY))
    assert added == worker("w", **{**BUSY, "status_changed_at": NOW, "last_heartbeat_at": NOW})


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (worker(), event("worker.status_changed", **BUSY), IS_BUSY),
        (IS_BUSY, event("worker.stage_changed", **NEXT), worker("w", **{**BUSY, **NEXT, "status_changed_at": NOW})),
        (worker(), event("worker.draining"), worker(draining=True)),
        (worker(pool_id="old"), event("worker.moved", from_pool_id="old"), worker()),
        (worker(), event("worker.removed"), None),
        (worker(), event("worker.removed", worker_id="another"), worker()),
    ],
    ids=lambda value: value.name if isinstance(value, ClientEvent) else "",
)
def test_event_of_a_worker(before: Worker, change: ClientEvent, after: Worker | None) -> None:
    assert fold("worker:w", before, change) == after


FIRST, LAST = worker("a"), worker("z")
ADDED = worker("w", **{**BUSY, "status_changed_at": NOW, "last_heartbeat_at": NOW})
FULL = PoolMetrics(active_workers=1, worker_count=1)


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (None, event("pool.created"), pool(metrics=PoolMetrics())),
        (pool(), event("pool.drained"), pool(status="draining")),
        (pool(status="draining"), event("pool.reopened"), pool()),
        (pool(), event("pool.closed"), pool(status="closed")),
        (pool(), event("pool.removed"), None),
        (pool(), event("pool.removed", pool_id="another"), pool()),
        (
            pool(),
            event("pool.status_changed", status={"active_workers": 1, "worker_count": 1}),
            pool(metrics=FULL),
        ),
        (pool(FIRST, LAST), event("worker.added", **BUSY), pool(FIRST, ADDED, LAST)),
        (pool(FIRST, worker()), event("worker.status_changed", **BUSY), pool(FIRST, IS_BUSY)),
        (pool(worker(), LAST), event("worker.draining"), pool(worker(draining=True), LAST)),
        (pool(FIRST, worker(), LAST), event("worker.removed"), pool(FIRST, LAST)),
        (
            pool(IS_BUSY),
            event("worker.stage_changed", **NEXT),
            pool(worker("w", **{**BUSY, **NEXT, "status_changed_at": NOW})),
        ),
    ],
    ids=lambda value: value.name if isinstance(value, ClientEvent) else "",
)
def test_event_of_a_pool(before: Pool | None, change: ClientEvent, after: Pool | None) -> None:
    assert fold("pool:p", before, change) == after


def test_moved_worker_leaves_the_old_pool_and_joins_the_new_one_with_its_status() -> None:
    left = event("worker.moved", pool_id="new", from_pool_id="p")
    assert fold("pool:p", pool(FIRST, worker()), left) == pool(FIRST)
    new = pool(pool_id="new")
    moved = fold("pool:new", new, left)
    assert moved == new, "its status follows"
    after = fold("pool:new", moved, event("worker.status_changed", pool_id="new", **BUSY, reported_by="airflow"))
    assert after is not None
    assert [(each.worker_id, each.reported_by) for each in after.workers] == [("w", "airflow")]


def test_worker_behind_the_listed_ones_of_a_truncated_pool_is_left_out() -> None:
    before = pool(FIRST, truncated=True)
    assert fold("pool:p", before, event("worker.added", **BUSY)) == before
    assert fold("pool:p", pool(LAST, truncated=True), event("worker.added", **BUSY)) == pool(
        ADDED, LAST, truncated=True
    )


def test_hold_of_a_run_changes_nothing_in_a_pool() -> None:
    before = pool(metrics=METRICS)
    held = event("workflow.held", name="", reason="no_worker", needs="")
    assert fold("pool:p", before, held) is before
