"""`list_stages`: all stages of a run of any size, page by page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import pytest

from orchestration.models import StageStatus
from realtime.protocol.requests import MAX_LISTED_ROWS, StageStatusName
from realtime.queries.pages import MAX_EXAMINED_ROWS
from realtime.queries.resource_state import MAX_STAGE_ERROR_CHARACTERS
from tests.connection.test_snapshots import PENDING_STAGE
from tests.harness.client import Client, connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

Unique = Callable[[str], str]


def create(server: MahavishnuServer, workflow_id: str, count: int) -> None:
    names = [f"stage_{number}" for number in range(count)]
    server.services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=names)
    server.services.start_workflow(workflow_id=workflow_id)


def skip(server: MahavishnuServer, workflow_id: str, positions: list[int], *, error: str = "") -> None:
    """Mark stages as skipped, without the counters and times that a service would set."""
    code = """
from orchestration.models import Stage
from django.utils import timezone
stages = Stage.objects.filter(workflow_id=workflow_id, position__in=positions)
stages.update(status="skipped", finished_at=timezone.now(), error=error)
"""
    server.services_driver.execute(code, workflow_id=workflow_id, positions=positions, error=error)


async def pages(client: Client, workflow_id: str, **data: Any) -> list[dict[str, Any]]:
    """Request every page, and return their data."""
    found: list[dict[str, Any]] = []
    while not found or found[-1]["next_after"] is not None:
        after = {"after": found[-1]["next_after"]} if found else {}
        answer = await client.request("list_stages", workflow_id=workflow_id, **data, **after)
        assert answer["type"] == "response", answer
        assert answer["data"].pop("workflow_id") == workflow_id
        assert answer["data"].pop("epoch") == client.welcome["data"]["epoch"]
        assert ("stage_counts" in answer["data"]) == (not found)
        found.append(answer["data"])
    return found


def names(found: list[dict[str, Any]]) -> list[str]:
    return [stage["stage_name"] for page in found for stage in page["stages"]]


async def test_pages_have_every_stage_once_and_in_order(server_on_both: MahavishnuServer, unique: Unique) -> None:
    workflow_id = unique("wf")
    create(server_on_both, workflow_id, 250)
    async with connect(server_on_both) as client:
        found = await pages(client, workflow_id)
        small = await pages(client, workflow_id, limit=120)
        exact = await pages(client, workflow_id, limit=125)
    assert [len(page["stages"]) for page in found] == [100, 100, 50]
    assert names(found) == names(small) == names(exact) == [f"stage_{number}" for number in range(250)]
    assert [page["next_after"] for page in exact] == [124, None]
    assert found[0]["stage_counts"] == {"pending": 250}
    assert found[0]["stages"][3] == {**PENDING_STAGE, "position": 3, "stage_name": "stage_3"}


async def test_page_has_the_changes_of_all_events_up_to_its_position(
    server_on_both: MahavishnuServer, unique: Unique
) -> None:
    workflow_id = unique("wf")
    create(server_on_both, workflow_id, 2)
    async with connect(server_on_both) as client:
        await client.subscribe(f"workflow:{workflow_id}")
        (before,) = await pages(client, workflow_id)
        server_on_both.services.start_stage(workflow_id=workflow_id, stage_name="stage_1")
        started = await client.event()
        (after,) = await pages(client, workflow_id)
    assert [stage["status"] for stage in after["stages"]] == ["pending", "running"]
    assert before["seq"] < started["seq"] <= after["seq"]


async def test_status_selects_stages_and_a_page_may_be_empty(server_on_both: MahavishnuServer, unique: Unique) -> None:
    workflow_id = unique("wf")
    create(server_on_both, workflow_id, 2 * MAX_EXAMINED_ROWS + 10)
    wanted = [5, 2 * MAX_EXAMINED_ROWS + 1]
    skip(server_on_both, workflow_id, wanted)
    async with connect(server_on_both) as client:
        found = await pages(client, workflow_id, status="skipped")
        assert names(await pages(client, workflow_id, status=["failed", "skipped"])) == names(found)
        assert names(await pages(client, workflow_id, status=["failed"])) == []
    assert names(found) == [f"stage_{position}" for position in wanted]
    assert [(len(page["stages"]), page["next_after"]) for page in found] == [
        (1, MAX_EXAMINED_ROWS - 1),
        (0, 2 * MAX_EXAMINED_ROWS - 1),
        (1, None),
    ]
    assert found[0]["stage_counts"] == {"pending": 2 * MAX_EXAMINED_ROWS + 8, "skipped": 2}


async def test_items_of_a_stage_are_listed(server_on_both: MahavishnuServer, unique: Unique) -> None:
    workflow_id = unique("wf")
    create(server_on_both, workflow_id, 2)
    code = """
from orchestration.models import Stage
stage = Stage.objects.get(workflow_id=workflow_id, name="stage_1")
Stage.objects.bulk_create(
    Stage(workflow_id=workflow_id, name=f"stage_1[{n}]", position=n, item_of=stage, item_index=n) for n in range(3)
)
"""
    server_on_both.services_driver.execute(code, workflow_id=workflow_id)
    skip(server_on_both, workflow_id, [2])
    async with connect(server_on_both) as client:
        assert names(await pages(client, workflow_id, item_of="stage_1", limit=2)) == [
            *("stage_1[0]", "stage_1[1]", "stage_1[2]")
        ]
        (skipped,) = await pages(client, workflow_id, item_of="stage_1", status="skipped")
        refused = await client.request("list_stages", workflow_id=workflow_id, item_of="stage_2")
    assert (skipped["stages"][0]["stage_name"], skipped["stage_counts"]) == ("stage_1[2]", {"pending": 2, "skipped": 1})
    message = f"Workflow '{workflow_id}' has no stage 'stage_2'"
    assert (refused["error_code"], refused["error_message"]) == ("NOT_FOUND", message)


async def test_page_is_bounded_in_bytes(server_on_both: MahavishnuServer, unique: Unique) -> None:
    workflow_id = unique("wf")
    create(server_on_both, workflow_id, 40)
    skip(server_on_both, workflow_id, list(range(40)), error="x" * (MAX_STAGE_ERROR_CHARACTERS + 1))
    async with connect(server_on_both) as client:
        found = await pages(client, workflow_id)
    assert [len(page["stages"]) for page in found] == [15, 15, 10]
    assert {len(stage["error"]) for page in found for stage in page["stages"]} == {MAX_STAGE_ERROR_CHARACTERS}


async def test_lists_count_towards_the_budget_of_replays(start_server: StartServer) -> None:
    server = start_server(max_replay_burst_bytes=1000, max_replay_bytes_per_second=1)
    create(server, "wf", 20)
    async with connect(server) as client:
        assert (await client.request("list_stages", workflow_id="wf"))["type"] == "response"
        refused = await client.request("list_stages", workflow_id="wf")
        assert (refused["error_code"], refused["retry_after_ms"] > 0) == ("RATE_LIMIT_EXCEEDED", True)


@pytest.mark.parametrize("workflow_id", ["wf_unknown", "not an id", ""])
async def test_stages_of_an_unknown_workflow_are_not_found(server: MahavishnuServer, workflow_id: str) -> None:
    async with connect(server) as client:
        answer = await client.request("list_stages", workflow_id=workflow_id)
    assert answer["error_code"] == "NOT_FOUND"


@pytest.mark.parametrize(
    "data",
    [
        {"status": "done"},
        {"status": []},
        {"status": ["failed", 3]},
        {"item_of": "x" * 129},
        {"after": -1},
        {"after": "5"},
        {"limit": 0},
        {"limit": MAX_LISTED_ROWS + 1},
    ],
    ids=str,
)
async def test_invalid_fields_are_rejected(server: MahavishnuServer, data: dict[str, Any]) -> None:
    async with connect(server) as client:
        answer = await client.request("list_stages", workflow_id="wf", **data)
    assert answer["error_code"] == "INVALID_MESSAGE"
    assert f"data.{next(iter(data))}" in answer["error_message"]


def test_protocol_names_every_status_of_a_stage() -> None:
    assert list(get_args(StageStatusName)) == StageStatus.values
