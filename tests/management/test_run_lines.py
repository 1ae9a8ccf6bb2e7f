"""What `run_workflow --watch` and `watch` show of stages that grow, wait and have items."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from orchestration.models import Stage, Workflow
from realtime.management.event_rows import event_row
from realtime.management.run_lines import RunLines
from realtime.protocol.messages import EventRecord
from realtime.protocol.payload import encode_data

ASKS = {"stage_name": "approve", "wait_name": "approve", "kind": "ask", "title": "Deploy?", "recipients": ["group:ops"]}
COUNTS = {"stage_name": "embed", "total": 500, "completed": 12, "failed": 0, "running": 4}


def lines(name: str, data: dict[str, Any], *, detailed: bool = True, has_bar: bool = False) -> list[str]:
    return RunLines("wf_1", detailed=detailed).of(f"workflow.{name}", data, has_bar=has_bar)


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        (
            "waiting",
            {**ASKS, "expires_at": "2026-02-10T20:00:00Z"},
            [
                "approve asks: Deploy? (for group:ops), until 2026-02-10T20:00:00Z",
                "  answer with: manage.py answer_workflow wf_1 approve",
            ],
        ),
        (
            "waiting",
            {"stage_name": "pay", "wait_name": "paid", "kind": "signal", "title": "", "expires_at": None},
            ["pay waits for the signal paid"],
        ),
        ("waiting", {"stage_name": "nap", "kind": "sleep", "expires_at": "T"}, ["nap sleeps, until T"]),
        ("wait_answered", {"stage_name": "a", "by": "ada"}, ["a: wait answered by ada"]),
        ("wait_answered", {"stage_name": "a", "by": ""}, ["a: wait answered"]),
        ("wait_expired", {"stage_name": "a"}, ["a: wait has reached its time limit"]),
        ("map_started", COUNTS, ["embed runs 500 items"]),
        ("map_progress", COUNTS, ["embed: 12 of 500 items"]),
        ("map_progress", {**COUNTS, "failed": 2}, ["embed: 12 of 500 items, 2 failed"]),
        ("stage_added", {"stage_name": "turn_2", "added_by": "turn"}, ["turn_2 added by turn"]),
        ("stage_status_changed", {"stage_name": "a", "status": "skipped", "reason": "Small"}, ["a skipped: Small"]),
        ("stage_status_changed", {"stage_name": "a", "status": "skipped", "reason": ""}, ["a skipped"]),
        ("stage_status_changed", {"stage_name": "a", "status": "cancelled"}, []),
        ("stage_completed", {"stage_name": "a"}, []),
    ],
    ids=str,
)
def test_line_of_an_event(name: str, data: dict[str, Any], expected: list[str]) -> None:
    assert lines(name, data) == expected


def test_added_stages_are_a_detail_and_a_bar_shows_items() -> None:
    assert lines("stage_added", {"stage_name": "turn_2", "added_by": "turn"}, detailed=False) == []
    assert lines("map_progress", COUNTS, has_bar=True) == []


def test_counts_of_items_are_throttled(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("realtime.management.run_lines.time", SimpleNamespace(monotonic=lambda: now))
    made = RunLines("wf_1", detailed=False)
    made.of("workflow.map_started", COUNTS, has_bar=False)
    shown = []
    for now in (100.5, 109.9, 110.1, 111.0, 121.0):  # noqa: B007
        shown.append(len(made.of("workflow.map_progress", COUNTS, has_bar=False)))
    assert shown == [0, 0, 1, 0, 1]


@pytest.mark.django_db
def test_sub_runs_are_listed_below_the_stage_that_waits_for_them() -> None:
    Workflow.objects.create(id="wf_1", adapter="python")
    stage = Stage.objects.create(workflow_id="wf_1", name="scores", position=0)
    for number in range(7):
        Workflow.objects.create(
            id=f"sub_{number}", adapter="python", name="score", parent_id="wf_1", root_id="wf_1", parent_stage=stage
        )
    waits = {"stage_name": "scores", "status": "waiting"}
    found = lines("stage_status_changed", waits)
    assert found == [
        "scores waits for its sub-runs:",
        *(f"  sub_{number} (score) pending" for number in range(5)),
        "  and more",
    ]
    assert lines("stage_status_changed", {**waits, "stage_name": "other"}) == []
    awaited = {**waits, "waits_for_runs": ["sub_1", "sub_6"], "waits_for_count": 2}
    assert lines("stage_status_changed", awaited) == [
        "scores waits for its sub-runs:",
        "  sub_1 (score) pending",
        "  sub_6 (score) pending",
    ]


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("waiting", ASKS, "workflow waiting wf_1 approve - asks - Deploy? - manage.py answer_workflow wf_1 approve"),
        ("wait_answered", {"stage_name": "a", "by": "ada"}, "workflow wait answered wf_1 a - by ada"),
        ("map_progress", COUNTS, "workflow map progress wf_1 embed - 12 of 500 items"),
        ("stage_added", {"stage_name": "turn_2", "added_by": "turn"}, "stage added wf_1 turn_2"),
        ("created", {"name": "score", "parent_id": "wf_0"}, "workflow created wf_1 score - sub-run of wf_0"),
    ],
    ids=str,
)
def test_row_of_an_event(name: str, data: dict[str, Any], expected: str) -> None:
    at = datetime(2026, 2, 10, 20, tzinfo=UTC)
    text = encode_data({"workflow_id": "wf_1", **data})
    row = event_row(EventRecord(1, "id", f"workflow.{name}", at, text), local_time=at)
    assert f"{row.word} {row.about} {row.detail}" == expected
