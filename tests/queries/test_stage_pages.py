"""What a page of the stages of a run reads: the same anywhere in a run of any size, and never more than is charged."""

from __future__ import annotations

import json
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orchestration import services
from orchestration.models import Stage, StageStatus, Workflow
from realtime.eventlog.position import Position, current_position
from realtime.queries import stage_pages
from realtime.queries.pages import EXAMINED_ROW_BYTES, MAX_EXAMINED_ROWS
from realtime.queries.stage_pages import StagePage, StageQuery, read_stage_page
from tests.harness.query_plans import collect_statistics, explain

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

STAGES = 10_000
MAX_BYTES = 64 * 1024

# How the plans name a range of positions, and the index that it is read from.
RANGE = {"sqlite": "(workflow_id=? AND position>? AND position<?)", "postgresql": "orchestration_stage_position_unique"}
NEWEST = {
    "sqlite": "USING INDEX orchestration_stage_position_unique",
    "postgresql": "orchestration_stage_position_unique",
}


def store(workflow_id: str, count: int, *, status: str = StageStatus.PENDING) -> None:
    Workflow.objects.create(id=workflow_id, adapter="python")
    finished_at = timezone.now() if status == StageStatus.FAILED else None
    Stage.objects.bulk_create(
        Stage(workflow_id=workflow_id, name=f"stage_{n}", position=n, step=n, status=status, finished_at=finished_at)
        for n in range(count)
    )


def store_items(workflow_id: str, stage_name: str, count: int) -> None:
    """Store items of a stage of a stored workflow. The last one has failed."""
    stage = Stage.objects.get(workflow_id=workflow_id, name=stage_name)
    Stage.objects.bulk_create(
        Stage(workflow_id=workflow_id, name=f"{stage_name}[{n}]", position=n, item_of=stage, item_index=n)
        for n in range(count)
    )
    last = Stage.objects.filter(item_of=stage, item_index=count - 1)
    last.update(status=StageStatus.FAILED, finished_at=timezone.now())


def read(
    workflow_id: str,
    *,
    item_of: str | None = None,
    statuses: Collection[str] = (),
    after: int | None = None,
    limit: int = 100,
) -> StagePage:
    query = StageQuery(workflow_id=workflow_id, item_of=item_of, statuses=tuple(statuses), after=after, limit=limit)
    page = read_stage_page(query, max_bytes=MAX_BYTES)
    assert page is not None
    return page


@pytest.mark.parametrize(
    "statuses", [pytest.param((), marks=pytest.mark.chaos), ("failed",), ("failed", "pending")], ids=str
)
def test_page_examines_a_range_of_positions_at_the_start_and_at_the_end(statuses: tuple[str, ...]) -> None:
    store("wide", STAGES)
    # No stage has failed by the statistics, and then many of another run: an index that begins with the pool and the
    # status would examine all of them.
    collect_statistics()
    store("failures", 1000, status=StageStatus.FAILED)
    for after in (0, STAGES // 2, STAGES - 101):
        with CaptureQueriesContext(connection) as captured:
            read("wide", statuses=statuses, after=after)
        page, newest = (query["sql"] for query in captured if '"orchestration_stage"' in query["sql"])
        assert "OFFSET" not in page
        with transaction.atomic():
            assert RANGE[connection.vendor] in explain(page)
            assert NEWEST[connection.vendor] in explain(newest)


def test_page_of_items_examines_a_range_of_them() -> None:
    store("wide", 2)
    store_items("wide", "stage_1", STAGES)
    collect_statistics()
    for after in (0, STAGES // 2, STAGES - 101):
        with CaptureQueriesContext(connection) as captured:
            read("wide", item_of="stage_1", statuses=("failed",), after=after)
        _, page, newest = (query["sql"] for query in captured if '"orchestration_stage"' in query["sql"])
        with transaction.atomic():
            assert "orchestration_stage_item_unique" in explain(page)
            assert "orchestration_stage_item_unique" in explain(newest)


def test_items_of_a_stage_are_listed_in_order_and_not_with_the_stages() -> None:
    store("wide", 2)
    store_items("wide", "stage_1", 5)
    stages = read("wide")
    assert [stage["stage_name"] for stage in json.loads(stages.stages)] == ["stage_0", "stage_1"]
    assert stages.stage_counts == {"pending": 2}
    items = read("wide", item_of="stage_1", limit=3)
    assert [item["stage_name"] for item in json.loads(items.stages)] == ["stage_1[0]", "stage_1[1]", "stage_1[2]"]
    assert (items.next_after, items.stage_counts) == (2, {"pending": 4, "failed": 1})
    rest = read("wide", item_of="stage_1", after=2)
    assert [item["position"] for item in json.loads(rest.stages)] == [3, 4]
    assert (rest.next_after, rest.stage_counts, rest.is_unknown_stage) == (None, None, False)
    assert json.loads(read("wide", item_of="stage_0").stages) == []
    for unknown in ("stage_2", "stage_1[0]"):
        assert read("wide", item_of=unknown).is_unknown_stage


def test_budget_is_charged_for_stages_that_are_examined_or_counted() -> None:
    store("wide", STAGES)
    first, second = read("wide", limit=1), read("wide", after=0, limit=1)
    # The first page has the counts.
    assert first.stage_counts == {"pending": STAGES}
    assert first.cost_bytes == len(first.stages) - 2 + EXAMINED_ROW_BYTES * (1 + STAGES)
    assert second.cost_bytes == len(second.stages) - 2 + EXAMINED_ROW_BYTES
    empty = read("wide", statuses=["failed"], after=0)
    assert (empty.stages, empty.next_after) == ("[]", MAX_EXAMINED_ROWS)
    assert empty.cost_bytes == EXAMINED_ROW_BYTES * MAX_EXAMINED_ROWS
    last = read("wide", statuses=["failed"], after=STAGES - 11)
    assert (last.next_after, last.cost_bytes) == (None, EXAMINED_ROW_BYTES * 10)


def test_page_is_the_state_at_its_position(monkeypatch: pytest.MonkeyPatch) -> None:
    services.create_workflow(workflow_id="wf", adapter="python", prompt="", stages=["one"])
    services.start_workflow(workflow_id="wf")

    def start_stage() -> None:
        services.start_stage(workflow_id="wf", stage_name="one")
        connection.close()

    def read_position_and_commit() -> Position:
        position = current_position()
        with ThreadPoolExecutor(1) as thread:
            thread.submit(start_stage).result()
        return position

    monkeypatch.setattr(stage_pages, "current_position", read_position_and_commit)
    page = read("wf")
    assert (json.loads(page.stages)[0]["status"], page.stage_counts) == ("pending", {"pending": 1})
    monkeypatch.undo()
    later = read("wf")
    assert json.loads(later.stages)[0]["status"] == "running"
    assert later.position.epoch == page.position.epoch
    assert later.position.seq == page.position.seq + 1 == current_position().seq


@pytest.mark.parametrize("after", [9, 10, 2**31 - 1])
@pytest.mark.parametrize("statuses", [(), ("pending",)], ids=str)
def test_page_behind_the_last_stage_is_the_last_one(after: int, statuses: tuple[str, ...]) -> None:
    store("small", 10)
    page = read("small", statuses=statuses, after=after)
    assert (page.stages, page.next_after, page.cost_bytes) == ("[]", None, 0)


def test_first_page_of_a_workflow_without_stages_is_empty() -> None:
    store("none", 0)
    page = read("none")
    assert (json.loads(page.stages), page.next_after, page.stage_counts) == ([], None, {})
