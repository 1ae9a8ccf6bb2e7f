"""Operations and reads of the API, beside a client of the WebSocket."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.http_calls import Answered, call
from tests.harness.client import connect
from tests.harness.server import MahavishnuServer

Unique = Callable[[str], str]


async def called(server: MahavishnuServer, *arguments: Any, **keywords: Any) -> Answered:
    return await asyncio.to_thread(call, server, *arguments, **keywords)


def add_items(server: MahavishnuServer, workflow_id: str, stage_name: str, count: int) -> None:
    code = """
from orchestration.models import Stage
stage = Stage.objects.get(workflow_id=workflow_id, name=name)
items = (Stage(workflow_id=workflow_id, name=f"{name}[{n}]", position=n, item_index=n) for n in range(count))
for item in items:
    item.item_of = stage
    Stage.objects.bulk_create([item])
"""
    server.services_driver.execute(code, workflow_id=workflow_id, name=stage_name, count=count)


def add_waits(server: MahavishnuServer, workflow_id: str, recipient: str) -> None:
    code = """
from django.utils import timezone
from orchestration.models import Stage, Wait
for stage in Stage.objects.filter(workflow_id=workflow_id, item_of=None):
    asked = {"kind": "ask", "recipients": recipient, "opened_at": timezone.now()}
    Wait.objects.create(workflow_id=workflow_id, stage=stage, name=stage.name, **asked)
"""
    server.services_driver.execute(code, workflow_id=workflow_id, recipient=recipient)


async def test_operation_is_answered_with_the_seq_of_its_event(server: MahavishnuServer, unique: Unique) -> None:
    pool_id, workflow_id = unique("pool"), unique("wf")
    server.services.create_pool(pool_id=pool_id)
    async with connect(server) as client:
        await client.subscribe("global")
        for method, path, body, event in (
            ("POST", "workflows", {"name": "demo_retry", "pool_id": pool_id, "workflow_id": workflow_id}, "workflow."),
            ("POST", f"workflows/{workflow_id}/cancel", {"reason": "r"}, "workflow.cancelled"),
            ("POST", f"workflows/{workflow_id}/retry", None, "workflow."),
            ("POST", f"pools/{pool_id}/drain", None, "pool."),
            ("POST", f"pools/{pool_id}/reopen", {}, "pool.reopened"),
        ):
            answer = await called(server, method, path, body)
            assert answer.status in (200, 201), answer.text
            assert answer.body["changed"]
            received = await client.event()
            while received["seq"] < answer.body["seq"]:
                received = await client.event()
            assert received["seq"] == answer.body["seq"]
            assert received["event"].startswith(event)
            assert {received["data"].get("workflow_id"), received["data"].get("pool_id")} & {workflow_id, pool_id}
            if event in ("workflow.cancelled", "pool.reopened"):
                again = await called(server, method, path, body)
                assert (again.status, again.body["changed"]) == (200, False)
                assert again.body["seq"] >= answer.body["seq"]


def test_change_that_the_state_does_not_allow_is_a_conflict(server: MahavishnuServer, unique: Unique) -> None:
    pool_id, workflow_id = unique("pool"), unique("wf")
    start = {"name": "demo_retry", "pool_id": pool_id, "workflow_id": workflow_id}
    assert call(server, "POST", "workflows", start).status == 201
    assert call(server, "POST", "workflows", start).code == "CONFLICT"
    assert call(server, "POST", f"workflows/{workflow_id}/retry").code == "INVALID_TRANSITION"
    assert call(server, "POST", f"pools/{pool_id}/drain").status == 200
    assert call(server, "POST", "workflows", {"name": "demo_retry", "pool_id": pool_id}).code == "CONFLICT"


async def test_retry_repeats_only_failed_items(server: MahavishnuServer, unique: Unique) -> None:
    pool_id, workflow_id = unique("pool"), unique("wf")
    code = "from tests.services.mapped_runs import store_mapped_run\nstore_mapped_run(workflow_id, pool_id)"
    server.services_driver.execute(code, workflow_id=workflow_id, pool_id=pool_id)
    path = f"workflows/{workflow_id}/retry"
    alone = await called(server, "POST", path, {"failed_items_only": True})
    assert (alone.status, alone.code, alone.body["detail"]) == (
        422,
        "INVALID_PARAMETERS",
        "failed_items_only: expected from_stage too: the stage with these items",
    )
    wrong = await called(server, "POST", path, {"failed_items_only": True, "from_stage": "index"})
    refused = f"Stage {workflow_id}/index has no items; failed_items_only is for a stage that runs once for each value."
    assert (wrong.status, wrong.code, wrong.body["detail"]) == (409, "CONFLICT", refused)
    async with connect(server) as client:
        await client.subscribe(f"workflow:{workflow_id}")
        done = await called(server, "POST", path, {"failed_items_only": True, "from_stage": "embed"})
        assert done.status == 200, done.text
        retried = (await client.event("workflow.retried"))["data"]
        assert (retried["from_stage"], retried["failed_items_only"]) == ("embed", True)
        assert [each["stage_name"] for each in retried["stages"]] == ["embed", "index"]
        started = (await client.event("workflow.map_started"))["data"]
        assert (started["stage_name"], started["total"], started["completed"]) == ("embed", 3, 2)


@pytest.mark.parametrize("kind", ["workflows", "pools", "workers", "stages", "items", "waits", "events"])
async def test_pages_together_are_the_list_of_the_websocket(
    server: MahavishnuServer, unique: Unique, kind: str
) -> None:
    pool_id = unique("pool")
    server.services.create_pool(pool_id=pool_id)
    for number in range(5):
        server.services.register_worker(worker_id=f"{pool_id}.{number}", pool_id=pool_id)
        server.services.create_workflow(
            workflow_id=f"{pool_id}.{number}", adapter="x", prompt="p", stages=list("abcde"), pool_id=pool_id
        )
    workflow_id, channel = f"{pool_id}.0", f"pool:{pool_id}"
    add_items(server, workflow_id, "b", 5)
    add_waits(server, workflow_id, "group:ops")
    lists: dict[str, tuple[str, str, dict[str, Any], str]] = {
        "workflows": (f"workflows?pool_id={pool_id}", "list_workflows", {"pool_id": pool_id}, "next_cursor"),
        "pools": ("pools?status=active", "list_pools", {"status": "active", "limit": 200}, "next_cursor"),
        "workers": (f"workers?pool_id={pool_id}", "list_workers", {"pool_id": pool_id}, "next_cursor"),
        "stages": (f"workflows/{workflow_id}/stages?", "list_stages", {"workflow_id": workflow_id}, "next_after"),
        "items": (
            f"workflows/{workflow_id}/stages?item_of=b",
            "list_stages",
            {"workflow_id": workflow_id, "item_of": "b"},
            "next_after",
        ),
        "waits": ("waits?to=group:ops&to=user:x&kind=ask", "list_waits", {"to": "group:ops"}, "next_cursor"),
        "events": (f"events?channel={channel}", "list_events", {"channel": channel, "after": 0}, "next_seq"),
    }
    path, request, data, cursor = lists[kind]
    async with connect(server) as client:
        whole = (await client.request(request, **data))["data"]
    parameter = "cursor" if cursor == "next_cursor" else "after"
    rows: list[Any] = []
    field = "stages" if kind == "items" else kind
    url = f"{path}&limit=2{'&after=0' if kind == 'events' else ''}"
    while True:
        page = await called(server, "GET", url)
        assert page.status == 200, page.text
        rows += page.body[field]
        assert page.body["epoch"] == whole["epoch"]
        if page.body[cursor] is None:
            break
        url = f"{path}&limit=2&{parameter}={page.body[cursor]}"
    assert rows == whole[field]
    assert len(rows) >= (1 if kind == "pools" else 5)


async def test_states_are_the_snapshots_of_the_websocket(server: MahavishnuServer, unique: Unique) -> None:
    pool_id = unique("pool")
    server.services.create_pool(pool_id=pool_id)
    server.services.register_worker(worker_id=pool_id, pool_id=pool_id)
    server.services.create_workflow(workflow_id=pool_id, adapter="x", prompt="p", stages=["a"], pool_id=pool_id)
    async with connect(server) as client:
        for kind in ("workflow", "pool", "worker"):
            snapshot = (await client.request("subscribe", channel=f"{kind}:{pool_id}", snapshot=True))["data"]
            answer = await called(server, "GET", f"{kind}s/{pool_id}")
            assert answer.body[kind] == snapshot["snapshot"]


@pytest.mark.parametrize("verb", ["start", "cancel", "drain"])
def test_operation_with_a_key_happens_once(server: MahavishnuServer, unique: Unique, verb: str) -> None:
    pool_id, workflow_id = unique("pool"), unique("wf")
    server.services.create_pool(pool_id=pool_id)
    server.services.create_workflow(workflow_id=workflow_id, adapter="x", prompt="p", stages=["a"], pool_id=pool_id)
    path, body, other = {
        "start": ("workflows", {"name": "demo_retry", "pool_id": pool_id}, {"name": "demo_retry", "prompt": "other"}),
        "cancel": (f"workflows/{workflow_id}/cancel", {"reason": "a"}, {"reason": "b"}),
        "drain": (f"pools/{pool_id}/drain", None, {}),
    }[verb]
    headers = {"Idempotency-Key": unique("key")}
    first = call(server, "POST", path, body, headers=headers)
    again = call(server, "POST", path, body, headers=headers)
    assert first.body["changed"]
    assert again.status == first.status
    assert (first.headers["Idempotency-Replayed"], again.headers["Idempotency-Replayed"]) == (None, "true")
    if verb == "start":
        assert again.body["workflow_id"] == first.body["workflow_id"]
    else:
        assert again.text == first.text
        assert call(server, "POST", path, body, headers={"Idempotency-Key": unique("key")}).body["changed"] is False
    assert call(server, "POST", path, other, headers=headers).code == "KEY_REUSED"
    for key in ("", "a b", "k" * 65):
        assert call(server, "POST", path, body, headers={"Idempotency-Key": key}).code == "INVALID_PARAMETERS"
