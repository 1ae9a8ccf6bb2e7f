"""`get_stage_result` and its twin in the HTTP API: the whole result of a stage, also if its event has a part of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from tests.api.http_calls import call
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

Unique = Callable[[str], str]
RESULT: dict[str, Any] = {"output": {"text": "✓" * 100_000, "rows": [1, 2.5, None, "ä"]}, "duration_ms": 7}
SIZE_BYTES = len('{"output":{"text":"","rows":[1,2.5,null,"ä"]},"duration_ms":7}'.encode()) + 3 * 100_000


def complete(server: MahavishnuServer, workflow_id: str, stage_name: str, result: dict[str, Any]) -> None:
    services = server.services
    services.create_workflow(workflow_id=workflow_id, adapter="x", prompt="", stages=[stage_name, "next"])
    services.start_workflow(workflow_id=workflow_id)
    services.start_stage(workflow_id=workflow_id, stage_name=stage_name)
    services.complete_stage(workflow_id=workflow_id, stage_name=stage_name, result=result)


async def test_result_is_whole_although_its_event_is_truncated(
    server_on_both: MahavishnuServer, unique: Unique
) -> None:
    workflow_id = unique("wf")
    async with connect(server_on_both) as client:
        await client.subscribe(f"workflow:{workflow_id}")
        complete(server_on_both, workflow_id, "load/all", RESULT)
        event = await client.event("workflow.stage_completed")
        assert event["data"]["truncated"] is True
        request: dict[str, Any] = {"workflow_id": workflow_id, "stage_name": "load/all"}
        found = (await client.request("get_stage_result", **request))["data"]
        path = f"workflows/{workflow_id}/stages/load%2Fall/result"
        answer = await asyncio.to_thread(call, server_on_both, "GET", path)
    assert found.pop("seq") >= event["seq"]
    assert found == {
        **request,
        "epoch": client.welcome["data"]["epoch"],
        "status": "completed",
        "attempt": 1,
        "result": RESULT,
        "size_bytes": SIZE_BYTES,
    }
    assert answer.body.pop("seq") >= event["seq"]
    assert {name: value for name, value in answer.body.items() if name != "seq"} == found


async def test_stage_without_a_result_has_null(server_on_both: MahavishnuServer, unique: Unique) -> None:
    workflow_id = unique("wf")
    complete(server_on_both, workflow_id, "load", {"output": None})
    async with connect(server_on_both) as client:
        request: dict[str, Any] = {"workflow_id": workflow_id, "stage_name": "next"}
        found = (await client.request("get_stage_result", **request))["data"]
    shown = {name: found[name] for name in found if name not in ("seq", "epoch")}
    assert shown == {**request, "status": "pending", "attempt": 0, "result": None, "size_bytes": 4}


@pytest.mark.parametrize(
    ("workflow_id", "stage_name", "message"),
    [
        ("no", "load", "Workflow 'no' not found"),
        ("a b", "load", "Workflow 'a b' not found"),
        (None, "no", "Workflow {workflow_id!r} has no stage 'no'"),
        (None, "\x00😀", "Workflow {workflow_id!r} has no stage '\\x00😀'"),
    ],
)
async def test_what_does_not_exist_is_not_found(
    server_on_both: MahavishnuServer, unique: Unique, workflow_id: str | None, stage_name: str, message: str
) -> None:
    if workflow_id is None:
        workflow_id = unique("wf")
        complete(server_on_both, workflow_id, "load", {})
    async with connect(server_on_both) as client:
        answer = await client.request("get_stage_result", workflow_id=workflow_id, stage_name=stage_name)
    expected = message.format(workflow_id=workflow_id)
    assert (answer["error_code"], answer["error_message"]) == ("NOT_FOUND", expected)


async def test_name_that_is_too_long_is_refused(server: MahavishnuServer) -> None:
    async with connect(server) as client:
        answer = await client.request("get_stage_result", workflow_id="wf", stage_name="x" * 129)
        assert answer["error_code"] == "INVALID_MESSAGE"
    answered = await asyncio.to_thread(call, server, "GET", f"workflows/wf/stages/{'x' * 129}/result")
    assert (answered.status, answered.code) == (404, "NOT_FOUND")


async def test_result_larger_than_the_budget_has_its_size_only(start_server: StartServer) -> None:
    server = start_server(max_replay_burst_bytes=10_000, max_replay_bytes_per_second=1.0)
    complete(server, "small", "load", {"output": "x" * 9_000})
    complete(server, "large", "load", {"output": "x" * 10_000})
    async with connect(server) as client:
        large = (await client.request("get_stage_result", workflow_id="large", stage_name="load"))["data"]
        small = (await client.request("get_stage_result", workflow_id="small", stage_name="load"))["data"]
        assert (small["result"]["output"], "too_large" in small) == ("x" * 9_000, False)
        assert (large["result"], large["too_large"]) == (None, True)
        assert 10_000 < large["size_bytes"] < 10_100
        # What was read is charged.
        refused = await client.request("get_stage_result", workflow_id="small", stage_name="load")
        again = await client.request("get_stage_result", workflow_id="small", stage_name="load")
    assert (refused["type"], again["error_code"]) == ("response", "RATE_LIMIT_EXCEEDED")
