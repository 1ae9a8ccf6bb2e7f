"""What each event changes in the state of a run."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from mahavishnu_client.fold import fold
from mahavishnu_client.state import Hold, ItemCounts, OpenedStream, OpenWait, Run, StageState
from tests.fold.states import HOLD, NOW, ClientEvent, at, event, replace, run, stage


def stream(name: str, attempt: int) -> OpenedStream:
    return OpenedStream(name=name, attempt=attempt, content_type="text")


def items(completed: int) -> ItemCounts:
    return ItemCounts(total=5, completed=completed, failed=0, running=0)


WAIT = OpenWait(
    wait_id=7,
    name="paid",
    kind="signal",
    title="Pay?",
    schema={"type": "object"},
    recipients=("group:ops",),
    opened_at=NOW,
    expires_at=at(90),
)
CREATED = event(
    "workflow.created",
    name="report",
    adapter="python",
    prompt="Write code",
    total_stages=2,
    pool_id="p",
    params={"path": "."},
    deadline_at=at(900),
    stages=[{"stage_name": f"s{number}", "step": number, "last_attempt": 3} for number in range(2)],
)
STARTED = event("workflow.started", name="report", adapter="python", prompt="Write code")
COMPLETED = event("workflow.completed", name="report", result={"final_output": 1})
FAILED = event("workflow.failed", name="report", error="Execution timeout", status="timeout")
RETRIED = event(
    "workflow.retried",
    name="report",
    adapter="python",
    prompt="Write code",
    from_stage="s1",
    stages=[{"stage_name": f"s{number}", "step": number, "last_attempt": last} for number, last in ((1, 4), (2, 3))],
    stages_completed=1,
    total_stages=3,
    pool_id="p",
    created_at=at(0),
    started_at=at(1),
    deadline_at=at(900),
)


def test_created_run_has_pending_stages() -> None:
    before: Run | None = None
    pending = run(stage(0), stage(1), status="pending", created_at=NOW, deadline_at=at(900))
    assert fold("workflow:wf", before, CREATED) == pending
    assert pending.stages[0] == StageState(position=0, stage_name="s0", step=0, last_attempt=3)


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (run(status="pending"), STARTED, run(started_at=NOW)),
        (run(), STARTED, run()),
        (
            run(),
            event("workflow.held", name="", reason="no_worker_with", pool_id="p", needs="shop:load"),
            run(held=Hold(reason="no_worker_with", needs="shop:load", since=NOW)),
        ),
        (run(held=HOLD), event("workflow.hold_ended", name="", pool_id="p"), run()),
        (run(), event("workflow.moved", name="", pool_id=None, from_pool_id="p"), run(pool_id=None)),
        (
            run(stage(0, "completed"), stage(1, retry_at=at(70)), held=HOLD, deadline_at=at(900), error="an old one"),
            COMPLETED,
            run(
                stage(0, "completed"),
                stage(1, "skipped", finished_at=NOW),
                status="completed",
                finished_at=NOW,
                result={"final_output": 1},
            ),
        ),
        (
            run(status="pending"),
            COMPLETED,
            run(status="completed", started_at=NOW, finished_at=NOW, result={"final_output": 1}),
        ),
        (
            run(stage(0, "running"), deadline_at=at(900), held=HOLD),
            FAILED,
            run(
                replace(stage(0, "running"), status="cancelled", finished_at=NOW),
                status="timeout",
                finished_at=NOW,
                error="Execution timeout",
            ),
        ),
        (
            run(stage(0, "queued"), stage(1, "failed")),
            event("workflow.cancelled", name="", reason="Unwanted"),
            run(
                replace(stage(0, "queued"), status="cancelled", finished_at=NOW),
                stage(1, "failed"),
                status="cancelled",
                finished_at=NOW,
                error="Unwanted",
            ),
        ),
        (run(status="failed"), event("workflow.removed", name=""), None),
    ],
    ids=lambda value: value.name if isinstance(value, ClientEvent) else "",
)
def test_event_of_a_run(before: Run, change: ClientEvent, after: Run | None) -> None:
    assert fold("workflow:wf", before, change) == after


def test_retried_run_keeps_its_times_and_attempts() -> None:
    failed = stage(1, "failed", error="It broke", duration_ms=7, progress=0.5, message="half", attempt=3)
    before = run(stage(0, "completed"), failed, stage(2, "cancelled"), status="failed", error="It broke")
    again = stage(1, queued_at=at(10), started_at=at(20), attempt=3, last_attempt=4)
    assert fold("workflow:wf", before, RETRIED) == run(stage(0, "completed"), again, stage(2), deadline_at=at(900))


def test_retried_run_keeps_its_skipped_stages() -> None:
    skipped, again = stage(0, "skipped", skip_reason="No"), stage(1, "skipped", skip_reason="No")
    change = event("workflow.retried", **{**msgspec.to_builtins(RETRIED.data), "stages_completed": 0})
    after = fold("workflow:wf", run(skipped, again, stage(2, "cancelled"), status="failed"), change)
    retried = stage(1, last_attempt=4)
    assert after == run(skipped, retried, stage(2), deadline_at=at(900))


AWAITED = {"waits_for_runs": ["a", "b"], "waits_for_count": 30}
LOST = {"attempt": 1, "reason": "lost", "error": "Gone", "last_attempt": 4}


@pytest.mark.parametrize(
    ("before", "change", "after"),
    [
        (
            stage(0, retry_at=at(50)),
            event("workflow.stages_queued", stages=["s0"], step=None, count=1),
            stage(0, "queued", queued_at=NOW),
        ),
        (stage(0), event("workflow.stages_queued", stages=["other"], step=None, count=1), stage(0)),
        (stage(0), event("workflow.stages_queued", stages=None, step=0, count=1), stage(0, "queued", queued_at=NOW)),
        (stage(0), event("workflow.stages_queued", stages=None, step=1, count=1), stage(0)),
        (
            stage(0, retry_at=at(70)),
            event("workflow.stages_queued", stages=None, step=0, count=1),
            stage(0, retry_at=at(70)),
        ),
        (
            stage(0, "queued", progress=0.5, message="half"),
            event("workflow.stage_started", stage_name="s0", worker_id="w", attempt=1),
            stage(0, "running", started_at=NOW),
        ),
        (
            stage(0, "running"),
            event("workflow.stage_failed", stage_name="s0", error="It broke", duration_ms=9, last_attempt=1),
            stage(0, "failed", error="It broke", duration_ms=9, last_attempt=1, finished_at=NOW),
        ),
        (
            stage(0, "running", progress=0.5),
            event("workflow.stage_retrying", stage_name="s0", retry_at=at(70), **LOST),
            replace(stage(0, "running", progress=0.5), status="pending", retry_at=at(70), last_attempt=4),
        ),
        (
            stage(0, "running"),
            event("workflow.stage_released", stage_name="s0", retry_at=None, **LOST),
            replace(stage(0, "running"), status="pending", last_attempt=4),
        ),
        (
            stage(0, "running"),
            event("workflow.stage_progress", stage_name="s0", progress=0.5, message="half"),
            stage(0, "running", progress=0.5, message="half"),
        ),
        (stage(0, "running"), event("workflow.stage_log", stage_name="s0", message="A line"), stage(0, "running")),
        (
            stage(0, "running", streams=(stream("b", 1), stream("c", 1))),
            event("workflow.stream_opened", stage_name="s0", stream_name="b", attempt=2, content_type="text"),
            stage(0, "running", streams=(stream("b", 2), stream("c", 1))),
        ),
        (
            stage(0, "running", streams=(stream("b", 1),)),
            event("workflow.stream_opened", stage_name="s0", stream_name="Z", attempt=1, content_type="text"),
            stage(0, "running", streams=(stream("Z", 1), stream("b", 1))),
        ),
        (
            stage(0, "running"),
            event("workflow.map_started", stage_name="s0", total=5, completed=0, failed=0, running=0),
            stage(0, "waiting", items=items(0)),
        ),
        (
            stage(0, "waiting", items=items(1)),
            event("workflow.map_progress", stage_name="s0", total=5, completed=3, failed=0, running=0),
            stage(0, "waiting", items=items(3)),
        ),
        (
            stage(0, "running"),
            event(
                "workflow.waiting",
                stage_name="s0",
                wait_id=7,
                wait_name="paid",
                kind="signal",
                title="Pay?",
                schema={"type": "object"},
                recipients=["group:ops"],
                expires_at=at(90),
                last_attempt=4,
            ),
            stage(0, "waiting", wait=WAIT, last_attempt=4),
        ),
        (
            stage(0, "waiting", wait=WAIT),
            event("workflow.wait_answered", stage_name="s0", wait_id=7, wait_name="paid", by="ada", resumes=True),
            replace(stage(0, "waiting"), status="pending"),
        ),
        (
            stage(0, "waiting", wait=WAIT),
            event("workflow.wait_expired", stage_name="s0", wait_id=7, wait_name="paid", resumes=False),
            stage(0, "waiting"),
        ),
        (
            stage(0, retry_at=at(70)),
            event("workflow.stage_status_changed", stage_name="s0", status="skipped", stages_completed=1),
            stage(0, "skipped", finished_at=NOW),
        ),
        (
            stage(0, "running"),
            event("workflow.stage_status_changed", stage_name="s0", status="skipped", reason="No", stages_completed=1),
            replace(stage(0, "running"), status="skipped", finished_at=NOW, skip_reason="No"),
        ),
        (
            stage(0, "running"),
            event("workflow.stage_status_changed", stage_name="s0", status="waiting", stages_completed=1, **AWAITED),
            replace(stage(0, "running"), status="waiting", waits_for_runs=("a", "b"), waits_for_count=30),
        ),
        (
            stage(0, "waiting", waits_for_runs=("a", "b"), waits_for_count=30),
            event("workflow.stage_failed", stage_name="s0", error="No", duration_ms=7, last_attempt=3),
            stage(0, "failed", error="No", duration_ms=7, last_attempt=3, finished_at=NOW),
        ),
        (
            stage(0, "failed"),
            event("workflow.stage_status_changed", stage_name="s0", status="pending", stages_completed=1),
            replace(stage(0, "failed"), status="pending", finished_at=None),
        ),
    ],
    ids=lambda value: value.name if isinstance(value, ClientEvent) else "",
)
def test_event_of_a_stage(before: StageState, change: ClientEvent, after: StageState) -> None:
    other = stage(1, "completed")
    folded = fold("workflow:wf", run(before, other), change)
    assert folded == run(after, other)
    assert folded is not None
    assert folded.stages[1] is other, "unchanged parts are shared"


def test_completed_stage_counts() -> None:
    change = event(
        "workflow.stage_completed", stage_name="s1", result={"output": "x"}, duration_ms=5, stages_completed=2
    )
    after = fold("workflow:wf", run(stage(0, "completed"), stage(1, "running", error="an old one")), change)
    assert after == run(stage(0, "completed"), stage(1, "completed", duration_ms=5, finished_at=NOW))


ADDED: dict[str, Any] = {"step": 1, "last_attempt": 3, "total_stages": 3, "stages_completed": 0}


def test_added_stage_is_pending_at_its_position() -> None:
    change = event("workflow.stage_added", stage_name="s1", position=1, **ADDED)
    added = StageState(position=1, stage_name="s1", step=1, last_attempt=3)
    assert fold("workflow:wf", run(stage(0), stage(2)), change) == run(stage(0), added, stage(2))


def test_removed_stage_is_not_listed() -> None:
    change = event("workflow.stage_removed", stage_name="s0", total_stages=1, stages_completed=0)
    assert fold("workflow:wf", run(stage(0, "completed"), stage(1)), change) == run(stage(1))
