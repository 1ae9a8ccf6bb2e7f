"""`get_workflow` and the lists, as clients use them. `tests/queries` has what the pages contain."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, get_args

import pytest

from orchestration.models import PoolStatus, Stage, WaitKind, WaitStatus, WorkerStatus, Workflow, WorkflowStatus
from orchestration.sdk.waits import MAX_RECIPIENT_LENGTH, MAX_RECIPIENTS
from realtime.protocol.requests import (
    MAX_EVENT_NAMES,
    MAX_LISTED_EVENTS,
    MAX_NAME_CHARACTERS,
    MAX_RECIPIENT_CHARACTERS,
    MAX_SEARCH_CHARACTERS,
    MAX_SELECTED_RECIPIENTS,
    PoolStatusName,
    WaitKindName,
    WaitStatusName,
    WorkerStatusName,
    WorkflowStatusName,
)
from tests.harness.client import Client, connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

Unique = Callable[[str], str]


def create(server: MahavishnuServer, workflow_id: str, **fields: Any) -> None:
    server.services.create_workflow(workflow_id=workflow_id, adapter="python", stages=["only"], **fields)


async def request(client: Client, event: str, **data: Any) -> dict[str, Any]:
    answer = await client.request(event, **data)
    assert answer["type"] == "response", answer
    assert answer["data"]["epoch"] == client.welcome["data"]["epoch"]
    found: dict[str, Any] = answer["data"]
    return found


async def test_workflow_is_the_state_of_its_snapshot(server_on_both: MahavishnuServer, unique: Unique) -> None:
    workflow_id = unique("wf")
    create(server_on_both, workflow_id, prompt="x" * 100_000)
    async with connect(server_on_both) as client:
        found = await request(client, "get_workflow", workflow_id=workflow_id)
        subscribed = await client.subscribe(f"workflow:{workflow_id}", snapshot=True)
        for unknown in ("wf_unknown", "not an id", ""):
            answer = await client.request("get_workflow", workflow_id=unknown)
            assert answer["error_code"] == "NOT_FOUND"
    assert found["workflow"] == subscribed["data"]["snapshot"]
    assert (found["workflow_id"], found["workflow"]["truncated"]) == (workflow_id, True)


async def test_lists_show_a_change_from_the_position_of_its_event_on(
    server_on_both: MahavishnuServer, unique: Unique
) -> None:
    workflow_id, pool_id, worker_id = unique("wf"), unique("pool"), unique("worker")
    server_on_both.services.create_pool(pool_id=pool_id)
    server_on_both.services.register_worker(worker_id=worker_id, pool_id=pool_id)
    create(server_on_both, workflow_id, prompt="", pool_id=pool_id)
    async with connect(server_on_both) as client:
        await client.subscribe("global")
        before = await request(client, "list_workflows", pool_id=pool_id)
        server_on_both.services.start_workflow(workflow_id=workflow_id)
        started = await client.event("workflow.started")
        after = await request(client, "list_workflows", pool_id=pool_id, status=["running"], counts=True)
        events = await request(client, "list_events", channel=f"workflow:{workflow_id}", after=before["seq"])
        pools = await request(client, "list_pools", status="active", limit=200)
        workers = await request(client, "list_workers", pool_id=pool_id)
    assert [row["status"] for row in before["workflows"]] == ["pending"]
    assert [row["status"] for row in after["workflows"]] == ["running"]
    assert after["counts"] == {"running": 1}
    assert "counts" not in before
    assert before["seq"] < started["seq"] <= after["seq"]
    (event,) = events["events"]
    assert event == {key: started[key] for key in ("id", "event", "data", "timestamp", "seq")}
    assert (events["has_more"], events["next_seq"]) == (False, None)
    assert pool_id in [pool["pool_id"] for pool in pools["pools"]]
    assert [worker["worker_id"] for worker in workers["workers"]] == [worker_id]


async def test_cursors_continue_each_list(server_on_both: MahavishnuServer, unique: Unique) -> None:
    pool_id = unique("pool")
    server_on_both.services.create_pool(pool_id=pool_id)
    for number in range(5):
        create(server_on_both, f"{pool_id}.{number}", prompt="", pool_id=pool_id)
        server_on_both.services.register_worker(worker_id=f"{pool_id}.{number}", pool_id=pool_id)
    async with connect(server_on_both) as client:
        for event, rows, row_id in (
            ("list_workflows", "workflows", "workflow_id"),
            ("list_workers", "workers", "worker_id"),
        ):
            found = [await request(client, event, pool_id=pool_id, limit=2)]
            while (cursor := found[-1]["next_cursor"]) is not None:
                found.append(await request(client, event, pool_id=pool_id, limit=2, cursor=cursor))
            ids = [row[row_id] for page in found for row in page[rows]]
            assert sorted(ids, reverse=event == "list_workflows") == ids
            assert (len(found), len(ids)) == (3, 5)


@pytest.mark.parametrize(
    "text",
    # None occurs in the runs of other tests on this server. As a pattern, "%_%_" would match almost all of them.
    [
        "\x00nowhere",
        "nowhere\x00",
        "😀 nowhere",
        "%_%_",
        "'; DROP TABLE orchestration_workflow; --",
        "%s nowhere",
        "{} nowhere",
    ],
    ids=repr,
)
async def test_any_text_is_searched(server_on_both: MahavishnuServer, text: str) -> None:
    async with connect(server_on_both) as client:
        for field in ("q", "name", "pool_id"):
            found = await request(client, "list_workflows", counts=True, **{field: text})
            assert (found["workflows"], found["counts"]) == ([], {})
        assert (await request(client, "list_workers", pool_id=text))["workers"] == []
        found = await request(client, "list_events", channel="global", names=[text])
        assert found["events"] == []


async def test_lists_count_towards_the_budget_of_replays(start_server: StartServer) -> None:
    server = start_server(max_replay_burst_bytes=1, max_replay_bytes_per_second=1)
    server.services.create_pool(pool_id="pool")
    server.services.register_worker(worker_id="worker", pool_id="pool")
    create(server, "wf", prompt="")
    requests: list[tuple[str, dict[str, Any]]] = [
        ("get_workflow", {"workflow_id": "wf"}),
        ("list_workflows", {}),
        # Nothing is found, but it is examined.
        ("list_workflows", {"q": "nowhere"}),
        ("list_pools", {"status": "closed"}),
        ("list_workers", {}),
        ("list_events", {"channel": "global", "names": ["nothing"]}),
    ]
    for event, data in requests:
        async with connect(server) as client:
            assert (await client.request(event, **data))["type"] == "response"
            refused = await client.request(event, **data)
            assert (refused["error_code"], refused["retry_after_ms"] > 0) == ("RATE_LIMIT_EXCEEDED", True), event


INVALID: list[tuple[str, dict[str, Any]]] = [
    ("list_workflows", {"status": "done"}),
    ("list_workflows", {"status": []}),
    ("list_workflows", {"q": ""}),
    ("list_workflows", {"q": "x" * (MAX_SEARCH_CHARACTERS + 1)}),
    ("list_workflows", {"from": "yesterday"}),
    ("list_workflows", {"from": "2026-02-10T20:00:00"}),
    ("list_workflows", {"to": "9999-12-31T23:59:59-14:00"}),
    ("list_workflows", {"cursor": "?"}),
    ("list_workflows", {"cursor": "MTIz"}),
    ("list_workflows", {"cursor": base64.b64encode(b"999999999999999999/wf").decode()}),
    ("list_workflows", {"cursor": base64.b64encode("1/ä".encode()).decode().rstrip("=")}),
    ("list_workflows", {"limit": 201}),
    ("list_workflows", {"counts": 1}),
    ("list_pools", {"status": "idle"}),
    ("list_pools", {"cursor": "MTIvMw"}),
    ("list_workers", {"status": ["active"]}),
    ("list_workers", {"cursor": "_w"}),
    ("list_waits", {"status": "waiting"}),
    ("list_waits", {"status": None}),
    ("list_waits", {"kind": []}),
    ("list_waits", {"to": ""}),
    ("list_waits", {"to": ["x"] * (MAX_SELECTED_RECIPIENTS + 1)}),
    ("list_waits", {"cursor": "LTE"}),
    ("list_waits", {"cursor": base64.b64encode(b"1/wf").decode().rstrip("=")}),
    ("list_waits", {"cursor": base64.b64encode(b"1/" + b"1" * 19).decode().rstrip("=")}),
    ("list_events", {"before": -1, "channel": "global"}),
    ("list_events", {"before": 5, "after": 3, "channel": "global"}),
    ("list_events", {"names": [], "channel": "global"}),
    ("list_events", {"names": ["x"] * (MAX_EVENT_NAMES + 1), "channel": "global"}),
    ("list_events", {"limit": MAX_LISTED_EVENTS + 1, "channel": "global"}),
]


async def test_invalid_fields_are_rejected(server: MahavishnuServer) -> None:
    async with connect(server) as client:
        for event, data in INVALID:
            answer = await client.request(event, **data)
            assert answer.get("error_code") == "INVALID_MESSAGE", (event, data, answer)
            assert f"data.{next(iter(data))}" in answer["error_message"]
            assert "xpected" in answer["error_message"] or "Invalid" in answer["error_message"], answer
        answer = await client.request("list_events", channel="planet:mars")
        assert answer["error_code"] == "INVALID_CHANNEL"


@pytest.mark.parametrize(
    ("names", "statuses"),
    [
        (WorkflowStatusName, WorkflowStatus),
        (PoolStatusName, PoolStatus),
        (WorkerStatusName, WorkerStatus),
        (WaitStatusName, WaitStatus),
        (WaitKindName, WaitKind),
    ],
)
def test_protocol_names_every_status(names: Any, statuses: Any) -> None:
    assert list(get_args(names)) == statuses.values


def test_protocol_allows_every_name_of_a_workflow() -> None:
    assert Workflow._meta.get_field("name").max_length == MAX_NAME_CHARACTERS
    assert Stage._meta.get_field("name").max_length == MAX_NAME_CHARACTERS
    assert (MAX_RECIPIENT_LENGTH, MAX_RECIPIENTS) == (MAX_RECIPIENT_CHARACTERS, MAX_SELECTED_RECIPIENTS)
