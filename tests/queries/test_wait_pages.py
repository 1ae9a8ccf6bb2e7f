"""What a page of waits has, and that it examines a bounded part of an index at any size of the table."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from orchestration.models import Stage, Wait, Workflow
from realtime.eventlog.position import current_position
from realtime.limits import Limits
from realtime.protocol.cursors import decode_timed_cursor
from realtime.queries import wait_pages
from realtime.queries.pages import EXAMINED_ROW_BYTES, Page
from realtime.queries.wait_pages import WaitQuery
from tests.harness.query_plans import collect_statistics, explain

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

SECOND = timedelta(seconds=1)
NOON = datetime(2026, 2, 10, 12, tzinfo=UTC)
WINDOW = 20
"""Rows that a page examines in these tests."""


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait_pages, "MAX_EXAMINED_ROWS", WINDOW)
    current_position()  # Create the log.


def store(workflow_id: str, *waits: dict[str, Any]) -> None:
    """Store a workflow with a stage for each of these waits. The name of a wait is its number."""
    Workflow.objects.create(id=workflow_id, adapter="python", name="release")
    names = [str(number) for number in range(len(waits))]
    stages = Stage.objects.bulk_create(
        Stage(workflow_id=workflow_id, name=name, position=number) for number, name in enumerate(names)
    )
    rows: list[Wait] = []
    for number, (stage, fields) in enumerate(zip(stages, waits, strict=True)):
        ended_at = NOON if fields.get("status") in ("answered", "expired") else None
        asked = {"kind": "ask", "opened_at": NOON + number // 3 * SECOND, "answered_at": ended_at, **fields}
        rows.append(Wait(workflow_id=workflow_id, stage=stage, name=stage.name, **asked))
    Wait.objects.bulk_create(rows)


def read(*, limit: int = 100, cursor: str | None = None, **filters: Any) -> Page:
    fields = {"workflow_id": None, "statuses": ("open",), "kinds": (), "recipients": (), **filters}
    after = None if cursor is None else decode_timed_cursor(cursor)
    return WaitQuery(**fields, after=after, limit=limit).read(Limits())


def pages(**options: Any) -> Iterator[Page]:
    page = read(**options)
    yield page
    while page.next_cursor is not None:
        page = read(cursor=page.next_cursor, **options)
        yield page


def names(*found: Page) -> list[str]:
    return [f"{row['workflow_id']}/{row['name']}" for page in found for row in json.loads(page.rows)]


def test_row_has_what_is_asked_and_who_should_answer() -> None:
    store("wf", {"title": "Deploy?", "schema": {"type": "boolean"}, "recipients": "group:ops\nuser:ada"})
    (row,) = json.loads(read().rows)
    assert row == {
        "wait_id": Wait.objects.get().pk,
        "workflow_id": "wf",
        "workflow_name": "release",
        "stage_name": "0",
        "name": "0",
        "kind": "ask",
        "status": "open",
        "title": "Deploy?",
        "schema": {"type": "boolean"},
        "recipients": ["group:ops", "user:ada"],
        "opened_at": "2026-02-10T12:00:00Z",
        "expires_at": None,
        "by": "",
        "answered_at": None,
    }


def test_pages_have_every_open_wait_once_the_newest_first() -> None:
    store("wf", *({"status": "answered"} if number % 5 == 0 else {} for number in range(50)))
    found = list(pages(limit=7))
    assert names(*found) == [f"wf/{number}" for number in reversed(range(50)) if number % 5]
    assert [len(json.loads(page.rows)) for page in found] == [7, 7, 7, 7, 7, 5]
    assert found[0].cost_bytes == len(found[0].rows) - 8 + EXAMINED_ROW_BYTES * 8


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"statuses": ("answered", "expired")}, ["b/3", "a/2", "a/1"]),
        ({"workflow_id": "a"}, ["a/0"]),
        ({"workflow_id": "a", "statuses": ("answered", "open")}, ["a/1", "a/0"]),
        ({"workflow_id": "c"}, []),
        ({"kinds": ("signal", "sleep")}, ["b/2"]),
        ({"recipients": ("group:ops",)}, ["b/0", "a/0"]),
        ({"recipients": ("user:ada", "user:bob")}, ["b/1", "b/0"]),
        ({"recipients": ("group:ops",), "workflow_id": "a", "statuses": ("open", "expired")}, ["a/2", "a/0"]),
        ({"recipients": ("group:op", "roup:ops", "GROUP:ops", "%", "group:ops\nuser:ada")}, ["b/0"]),
    ],
    ids=str,
)
def test_filters_select_waits(filters: dict[str, Any], expected: list[str]) -> None:
    ops = {"recipients": "group:ops"}
    store("a", ops, {"status": "answered"}, {**ops, "status": "expired"}, {**ops, "status": "closed"})
    store(
        "b",
        {"recipients": "group:ops\nuser:ada"},
        {"recipients": "user:bob"},
        {"kind": "signal"},
        {"status": "expired"},
    )
    assert names(*pages(limit=1, **filters)) == names(read(**filters)) == expected


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({"recipients": ("group:ops",)}, "orchestration_wait_list"),
        ({"statuses": ("open", "closed"), "kinds": ("sleep",)}, "orchestration_wait_list"),
        ({"workflow_id": "wide", "recipients": ("group:ops",)}, "orchestration_wait_workflow"),
    ],
    ids=str,
)
def test_page_examines_a_range_of_an_index(filters: dict[str, Any], index: str) -> None:
    store("other", *({"status": "expired"} for _ in range(500)))
    store("wide", *({} for _ in range(2000)))
    collect_statistics()
    for cursor in (None, read(limit=1).next_cursor):
        with CaptureQueriesContext(connection) as captured:
            page = read(cursor=cursor, **filters)
        assert page.next_cursor is not None
        assert (json.loads(page.rows), page.cost_bytes <= EXAMINED_ROW_BYTES * WINDOW) == ([], True)
        sql = next(query["sql"] for query in captured if "ROW_NUMBER" in query["sql"])
        with transaction.atomic():
            plan = explain(sql)
        assert index in plan
