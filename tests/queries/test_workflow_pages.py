"""What a page of workflows has, and that it examines a bounded part of an index at any size of the table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from orchestration.models import FINISHED_WORKFLOW_STATUSES, Pool, Workflow
from realtime.eventlog.position import current_position
from realtime.limits import Limits
from realtime.protocol.cursors import decode_timed_cursor
from realtime.queries import workflow_counts, workflow_filters
from realtime.queries.pages import EXAMINED_ROW_BYTES, SEARCHED_ROW_BYTES
from realtime.queries.workflow_filters import WorkflowFilters
from realtime.queries.workflow_pages import WorkflowPage, WorkflowQuery
from tests.harness.query_plans import collect_statistics, explain

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

LIMITS = Limits()
NOON = datetime(2026, 2, 10, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

WINDOW = 20
"""Rows that a page examines in these tests."""


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (workflow_filters, workflow_counts):
        monkeypatch.setattr(module, "MAX_EXAMINED_ROWS", WINDOW)
    monkeypatch.setattr(workflow_counts, "MAX_COUNTED_WORKFLOWS", 2 * WINDOW)
    current_position()  # Create the log.


def run(number: int, status: str = "completed", at: datetime | None = None, **fields: Any) -> Workflow:
    at = at or NOON + number * MINUTE
    finished_at = at if status in FINISHED_WORKFLOW_STATUSES else None
    times = {"created_at": at, "started_at": at, "finished_at": finished_at}
    return Workflow(id=f"wf_{number:03}", adapter="python", status=status, **times, **fields)


def store(*runs: Workflow) -> None:
    Workflow.objects.bulk_create(runs)


def read(*, limit: int = 100, after: str | None = None, counts: bool = False, **filters: Any) -> WorkflowPage:
    cursor = None if after is None else decode_timed_cursor(after)
    query = WorkflowQuery(filters=WorkflowFilters(**filters), after=cursor, limit=limit, with_counts=counts)
    return query.read(LIMITS)


def pages(**options: Any) -> Iterator[WorkflowPage]:
    page = read(**options)
    yield page
    while page.next_cursor is not None:
        page = read(after=page.next_cursor, **options)
        yield page


def ids(*found: WorkflowPage) -> list[int]:
    return [int(row["workflow_id"].removeprefix("wf_")) for page in found for row in json.loads(page.workflows)]


def test_pages_have_every_workflow_once_the_newest_first() -> None:
    # Many are created at the same time, without and with a fraction of a second.
    store(*(run(n, at=NOON + n // 10 * timedelta(milliseconds=500)) for n in range(50)))
    found = list(pages(limit=7))
    assert ids(*found) == list(reversed(range(50)))
    assert [len(json.loads(page.workflows)) for page in found] == [7] * 7 + [1]
    assert found[0].cost_bytes == len(found[0].workflows) - 8 + EXAMINED_ROW_BYTES * 8
    assert [page.next_cursor is None for page in pages(limit=25)] == [False, True]


def test_row_is_the_state_of_the_workflow_with_the_beginning_of_its_texts() -> None:
    store(run(1, status="failed", name="report", prompt="p" * 300, error="e" * 1001))
    (row,) = json.loads(read().workflows)
    assert row == {
        "workflow_id": "wf_001",
        "name": "report",
        "status": "failed",
        "stages_completed": 0,
        "total_stages": 0,
        "pool_id": None,
        "created_at": "2026-02-10T12:01:00Z",
        "started_at": "2026-02-10T12:01:00Z",
        "finished_at": "2026-02-10T12:01:00Z",
        "held": None,
        "adapter": "python",
        "prompt": "p" * 199 + "…",
        "error": "e" * 999 + "…",
    }


def store_mixed() -> list[dict[str, Any]]:
    """Store 120 workflows of which every filter selects some, and return their fields."""
    Pool.objects.bulk_create(Pool(id=name) for name in ("large", "small"))
    fields: list[dict[str, Any]] = [
        {
            "name": "rare" if n % 40 == 3 else "report",
            "pool_id": "small" if n % 30 == 3 else "large",
            "status": ("failed", "timeout", "running")[n // 7 % 3] if n % 7 == 3 else "completed",
            "prompt": "Write CODE" if n % 10 == 3 else "",
        }
        for n in range(120)
    ]
    store(*(run(n, **each) for n, each in enumerate(fields)))
    return fields


@pytest.mark.parametrize(
    "filters",
    [
        {},
        {"statuses": ("failed",)},
        {"statuses": ("failed", "running", "timeout")},
        {"statuses": ("completed", "failed")},
        {"name": "rare"},
        {"pool_id": "small", "statuses": ("completed",)},
        {"name": "report", "pool_id": "small"},
        {"name": "report", "pool_id": "large", "statuses": ("failed", "timeout"), "text": "code"},
        {"text": "code"},
        {"created_from": NOON + 20 * MINUTE, "created_before": NOON + 90 * MINUTE, "name": "report"},
        {"finished_from": NOON + 50 * MINUTE},
        {"finished_from": NOON + 50 * MINUTE, "statuses": ("failed", "timeout"), "name": "report"},
        {"name": "unknown"},
    ],
    ids=str,
)
@pytest.mark.parametrize("limit", [3, 50])
def test_filters_combine_and_a_page_may_be_empty(filters: dict[str, Any], limit: int) -> None:
    fields = store_mixed()
    wanted = [
        n
        for n, each in enumerate(fields)
        if each["status"] in filters.get("statuses", (each["status"],))
        and each["name"] == filters.get("name", each["name"])
        and each["pool_id"] == filters.get("pool_id", each["pool_id"])
        and filters.get("text", "") in each["prompt"].lower()
        and filters.get("created_from", NOON) <= NOON + n * MINUTE < filters.get("created_before", NOON + 200 * MINUTE)
        and (each["status"] != "running" or "finished_from" not in filters)
        and filters.get("finished_from", NOON) <= NOON + n * MINUTE
    ]
    found = list(islice(pages(limit=limit, **filters), 100))
    assert ids(*found) == wanted[::-1]
    row_bytes = SEARCHED_ROW_BYTES if "text" in filters else EXAMINED_ROW_BYTES
    for page in found:
        examined = row_bytes * max(WINDOW, 3 * (limit + 1))
        assert page.cost_bytes <= len(page.workflows) + examined


def test_filters_are_combined_from_the_rarest_one() -> None:
    store_mixed()
    combined: list[dict[str, Any]] = [
        {"name": "rare", "statuses": ("completed",)},
        {"pool_id": "small", "statuses": ("completed",), "name": "report"},
        {"statuses": ("failed",), "name": "report", "pool_id": "large"},
    ]
    for filters in combined:
        # All that pass the rarest filter are in one page.
        assert read(**filters).next_cursor is None, filters


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("WF_00", [4, 3, 2, 1]),
        ("f_001", []),
        ("report", [1]),
        ("STRASSE", [2]),
        ("ÄRGER", [2]),
        ("not FOUND", [3]),
        ("100%", [4]),
        ("1_0", []),
        ("100% \\", [4]),
    ],
)
def test_text_is_searched_in_any_case_and_literally(text: str, found: list[int]) -> None:
    store(
        run(1, prompt="Write a REPORT"),
        run(2, prompt="Kein ärger in der Hauptstrasse"),
        run(3, status="failed", error="File not found"),
        run(4, prompt="Use 100% \\ of it"),
    )
    assert ids(read(text=text)) == found


def test_budget_is_charged_for_texts_that_are_searched() -> None:
    store(*(run(n) for n in range(2 * WINDOW)))
    page = read(text="none has this", counts=True)
    assert (page.workflows, page.counts) == ("[]", {})
    assert page.cost_bytes == SEARCHED_ROW_BYTES * 2 * WINDOW


def test_counts_are_by_status_for_the_other_filters() -> None:
    fields = store_mixed()
    completed = sum(each["status"] == "completed" for each in fields)
    page = read(counts=True, limit=1, statuses=("failed",))
    assert completed > 2 * WINDOW
    assert page.counts == {"completed": 2 * WINDOW, "failed": 6, "running": 5, "timeout": 6}
    # Two rows were examined for the page.
    assert page.cost_bytes == len(page.workflows) - 2 + EXAMINED_ROW_BYTES * (2 + 2 * WINDOW + 17)
    assert read(counts=True, name="rare").counts == {"completed": 2, "failed": 1}
    # Those that are examined for a count are bounded too, by any filter.
    assert sum((read(counts=True, name="report").counts or {}).values()) == 2 * WINDOW
    assert read(counts=True, text="code").counts == {"completed": 2}
    assert sum((read(counts=True, created_from=NOON + 100 * MINUTE).counts or {}).values()) == 20
    page = read(counts=True, limit=1, finished_from=NOON + 100 * MINUTE)
    assert page.counts == {
        status: count
        for status in ("completed", "failed", "timeout")
        if (count := sum(each["status"] == status for each in fields[100:]))
    }
    assert read().counts is None


INDEX = {
    "status": "orchestration_workflow_status",
    "name": "orchestration_workflow_name",
    "pool_id": "orchestration_workflow_pool",
    "created": "orchestration_workflow_created",
}
# How the plans begin what they read of a table by an index.
READ = {"sqlite": "orchestration_workflow USING INDEX", "postgresql": '"Relation Name": "orchestration_workflow"'}


@pytest.mark.parametrize(
    ("filters", "column"),
    [
        ({"statuses": ("failed",)}, "status"),
        ({"statuses": ("failed", "timeout")}, "status"),
        ({"name": "rare"}, "name"),
        ({"pool_id": "small"}, "pool_id"),
        ({}, "created"),
        ({"text": "nowhere"}, "created"),
        ({"name": "rare", "statuses": ("completed", "failed")}, "name"),
    ],
    ids=str,
)
def test_page_reads_a_range_of_an_index(filters: dict[str, Any], column: str) -> None:
    store_mixed()
    collect_statistics()
    after = read(limit=1).next_cursor
    with CaptureQueriesContext(connection) as captured:
        read(after=after, **filters)
    (search,) = (query["sql"] for query in captured if "examined" in query["sql"])
    with transaction.atomic():
        plan = explain(search)
    windows = len(filters["statuses"]) if column == "status" else 1
    assert plan.count(INDEX[column]) == windows
    assert not any(name in plan for name in set(INDEX.values()) - {INDEX[column]})
    # Nothing else of the table is read.
    assert "Seq Scan" not in plan
    assert plan.count(READ[connection.vendor]) == windows


def test_statuses_together_are_as_quick_as_one() -> None:
    store_mixed()
    query = WorkflowQuery(filters=WorkflowFilters(statuses=("failed",)), after=None, limit=5, with_counts=False)
    both = replace(query, filters=WorkflowFilters(statuses=("failed", "timeout")))
    for each, windows in ((query, 1), (both, 2)):
        page = each.read(LIMITS)
        assert page.cost_bytes <= len(page.workflows) + EXAMINED_ROW_BYTES * windows * 6


def test_page_is_bounded_in_bytes() -> None:
    store(*(run(n, status="failed", error="€" * 1000) for n in range(9)))
    query = WorkflowQuery(filters=WorkflowFilters(), after=None, limit=100, with_counts=False)
    page = query.read(Limits(max_replay_chunk_bytes=10_000))
    assert ids(page) == [8, 7, 6]
    assert ids(read(after=page.next_cursor)) == [5, 4, 3, 2, 1, 0]
