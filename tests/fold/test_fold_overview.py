"""What each event changes in the overview."""

from __future__ import annotations

from typing import Any

import pytest

from mahavishnu_client.fold import fold
from mahavishnu_client.fold_overview import MAX_ROWS
from mahavishnu_client.state import Hold, Overview, PoolMetrics, PoolRow
from tests.fold.states import HOLD, NOW, ClientEvent, at, event, overview, pool_row, row

OTHER = row("other", created=-5)
NEW = {"name": "report", "adapter": "python", "prompt": "", "total_stages": 2, "pool_id": "p", "deadline_at": None}
RETRIED = event(
    "workflow.retried",
    name="report",
    adapter="python",
    prompt="",
    from_stage=None,
    stages_completed=1,
    total_stages=2,
    pool_id="p",
    created_at=at(0),
    started_at=at(1),
    deadline_at=None,
)
CREATED = row(created=60, status="pending")
ADDED = {"stage_name": "s", "position": 2, "step": 0, "last_attempt": 1}
COUNTS: dict[str, Any] = {"total_stages": 3, "stages_completed": 1}


@pytest.mark.parametrize("channel", ["global", "summary"])
@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (overview(OTHER), event("workflow.created", **NEW), overview(CREATED, OTHER)),
        (overview(row(status="pending"), OTHER), event("workflow.started", name="", adapter="", prompt=""), None),
        (overview(row()), event("workflow.completed", name=""), overview()),
        (overview(row(), OTHER), event("workflow.failed", name="", error="", status="failed"), overview(OTHER)),
        (overview(row()), event("workflow.cancelled", name="", reason=""), overview()),
        (overview(row()), event("workflow.removed", name=""), overview()),
        (overview(OTHER), event("workflow.removed", name=""), overview(OTHER)),
        (
            overview(row("newer", created=9), OTHER),
            RETRIED,
            overview(row("newer", created=9), row(stages_completed=1), OTHER),
        ),
        (
            overview(OTHER, row()),
            event("workflow.stage_completed", stage_name="s", duration_ms=1, stages_completed=1),
            overview(OTHER, row(stages_completed=1)),
        ),
        (
            overview(row(stages_completed=1)),
            event("workflow.stage_status_changed", stage_name="s", status="pending", stages_completed=0),
            overview(row()),
        ),
        (overview(row()), event("workflow.stage_added", **ADDED, **COUNTS), overview(row(**COUNTS))),
        (overview(row()), event("workflow.stage_removed", stage_name="s", **COUNTS), overview(row(**COUNTS))),
        (
            overview(row()),
            event("workflow.held", name="", reason="no_worker", pool_id="p", needs=""),
            overview(row(held=Hold(reason="no_worker", needs="", since=NOW))),
        ),
        (overview(row(held=HOLD)), event("workflow.hold_ended", name="", pool_id="p"), overview(row())),
        (
            overview(row()),
            event("workflow.moved", name="", pool_id="q", from_pool_id="p"),
            overview(row(pool_id="q")),
        ),
        (
            overview(pools=(pool_row("q"),)),
            event("pool.created"),
            overview(pools=(PoolRow(pool_id="p", status="active", metrics=PoolMetrics()), pool_row("q"))),
        ),
        (overview(pools=(pool_row(),)), event("pool.removed"), overview()),
        (overview(pools=(pool_row(),)), event("pool.drained"), overview(pools=(pool_row(status="draining"),))),
        (overview(pools=(pool_row(status="draining"),)), event("pool.reopened"), overview(pools=(pool_row(),))),
        (overview(pools=(pool_row(),)), event("pool.closed"), overview(pools=(pool_row(status="closed"),))),
        (
            overview(pools=(pool_row(),)),
            event("pool.status_changed", status={}),
            overview(pools=(PoolRow(pool_id="p", status="active", metrics=PoolMetrics()),)),
        ),
        (overview(row()), event("workflow.stage_log", stage_name="s", message="A line"), overview(row())),
    ],
    ids=lambda value: value.name if isinstance(value, ClientEvent) else "",
)
def test_event_of_an_overview(channel: str, before: Overview, change: ClientEvent, after: Overview | None) -> None:
    if after is None:
        after = overview(row(started_at=NOW), OTHER)
    assert fold(channel, before, change) == after


def test_overview_lists_the_newest_and_is_truncated_beyond() -> None:
    rows = tuple(row(f"wf{number:03}", created=-number) for number in range(MAX_ROWS))
    pools = tuple(pool_row(f"p{number}") for number in range(MAX_ROWS))
    full = overview(*rows, pools=pools)
    more = fold("global", full, event("workflow.created", **NEW))
    assert more == overview(CREATED, *rows[:-1], pools=pools, truncated=True)
    assert fold("global", full, event("pool.created")) == overview(
        *rows,
        pools=(PoolRow(pool_id="p", status="active", metrics=PoolMetrics()), *pools[:-1]),
        truncated=True,
    )


def test_run_behind_the_listed_ones_of_a_truncated_overview_is_left_out() -> None:
    before = overview(row("newer", created=9), truncated=True)
    assert fold("global", before, RETRIED) is before


def test_runs_of_one_moment_are_in_the_order_of_their_ids() -> None:
    before = overview(row("z", created=0), row("a", created=0))
    after = fold("global", before, RETRIED)
    assert after is not None
    assert [each.workflow_id for each in after.workflows] == ["z", "wf", "a"]
