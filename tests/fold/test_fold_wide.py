"""Runs with more stages than are listed: the counts stay right."""

from __future__ import annotations

import pytest

from mahavishnu_client.fold import fold
from mahavishnu_client.state import Run
from tests.fold.states import ClientEvent, at, event, run, stage


def wide(**counts: int) -> Run:
    """Return a run of 1000 stages of which one is listed, which is completed."""
    return run(stage(0, "completed"), stage_counts={"completed": 1, **counts}, total_stages=1000, truncated=True)


FAILED = {"error": "It broke", "duration_ms": 1, "last_attempt": 1}
RETRY = {"attempt": 1, "reason": "failed", "error": "It broke", "retry_at": None, "last_attempt": 3}


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (wide(pending=999), event("workflow.stages_queued", stages=None, step=1, count=999), wide(queued=999)),
        (
            wide(pending=999),
            event("workflow.stages_queued", stages=["s7", "s8"], step=None, count=2),
            wide(pending=997, queued=2),
        ),
        (
            wide(queued=999),
            event("workflow.stage_started", stage_name="s7", worker_id="w", attempt=1),
            wide(queued=998, running=1),
        ),
        (
            wide(pending=999),
            event("workflow.stage_started", stage_name="s7", worker_id=None, attempt=1),
            wide(pending=998, running=1),
        ),
        (wide(running=1), event("workflow.stage_failed", stage_name="s7", **FAILED), wide(failed=1)),
        (wide(running=2), event("workflow.stage_retrying", stage_name="s7", **RETRY), wide(running=1, pending=1)),
        (
            wide(pending=2),
            event("workflow.stage_status_changed", stage_name="s7", status="skipped", stages_completed=1),
            wide(pending=1, skipped=1),
        ),
        (wide(running=1), event("workflow.stage_progress", stage_name="s7", progress=0.5, message=""), wide(running=1)),
    ],
    ids=lambda value: value.name if isinstance(value, ClientEvent) else "",
)
def test_unlisted_stage_moves_the_counts(before: Run, change: ClientEvent, after: Run) -> None:
    assert fold("workflow:wf", before, change) == after


def test_unlisted_stages_are_added_and_removed() -> None:
    before = wide(pending=999)
    added = event(
        "workflow.stage_added",
        stage_name="new",
        position=2000,
        step=0,
        last_attempt=1,
        total_stages=1001,
        stages_completed=1,
    )
    after = fold("workflow:wf", before, added)
    assert after is not None
    assert (after.stages, after.stage_counts, after.total_stages) == (
        before.stages,
        {"completed": 1, "pending": 1000},
        1001,
    )
    removed = event("workflow.stage_removed", stage_name="new", total_stages=1000, stages_completed=1)
    assert fold("workflow:wf", after, removed) == before
    completed = event("workflow.stage_removed", stage_name="s7", total_stages=999, stages_completed=0)
    last = fold("workflow:wf", before, completed)
    assert last is not None
    assert last.stage_counts == {"pending": 999}


def test_created_run_with_unlisted_stages_is_truncated() -> None:
    created = event(
        "workflow.created",
        name="",
        adapter="python",
        prompt="",
        total_stages=2,
        pool_id=None,
        deadline_at=None,
        stages=[{"stage_name": "s0", "step": 0, "last_attempt": 1}],
    )
    before: Run | None = None
    folded = fold("workflow:wf", before, created)
    assert folded is not None
    assert (folded.truncated, folded.stage_counts, len(folded.stages)) == (True, {"pending": 2}, 1)


def test_retried_run_with_unlisted_stages_is_truncated() -> None:
    before = run(stage(0, "failed"), stage(1, "cancelled"), status="failed")
    retried = event(
        "workflow.retried",
        name="",
        adapter="python",
        prompt="",
        from_stage=None,
        stages=[{"stage_name": "s0", "step": 0, "last_attempt": 2}],
        stages_completed=0,
        total_stages=2,
        pool_id="p",
        created_at=at(0),
        started_at=at(1),
        deadline_at=None,
    )
    folded = fold("workflow:wf", before, retried)
    assert folded is not None
    assert (folded.truncated, folded.stage_counts) == (True, {"pending": 2})


def test_end_of_a_wide_run_ends_its_unlisted_stages() -> None:
    folded = fold("workflow:wf", wide(queued=990, running=9), event("workflow.cancelled", name="", reason=""))
    assert folded is not None
    assert folded.stage_counts == {"completed": 1, "cancelled": 999}
