"""Every example of the API reference: sent as printed, answered with every printed field. Others are allowed."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.matchers import A_TIME, A_UUID, an_error
from tests.harness.server import MahavishnuServer
from tests.reference import MESSAGES

# The state that the examples assume: a workflow after three of ten stages, a pool with two workers.
STATE = """
from orchestration import services
from orchestration.models import Pool, Stage, Worker, Workflow

for model in (Stage, Workflow, Worker, Pool):
    model.objects.all().delete()
services.create_pool(pool_id="pool_local")
for worker_id in ("worker_001", "worker_002"):
    services.register_worker(worker_id=worker_id, pool_id="pool_local")
names = [f"stage_{number}" for number in range(10)]
services.create_workflow(workflow_id="wf_abc123", adapter="llamaindex", prompt="Write code", stages=names)
services.start_workflow(workflow_id="wf_abc123")
for name in names[:3]:
    services.complete_stage(workflow_id="wf_abc123", stage_name=name)
"""

# The change that causes each event, at the printed time.
CHANGES = {
    "workflow.started": 'services.start_workflow(workflow_id="wf_abc123", at=at)',
    "workflow.stage_completed": """
services.start_workflow(workflow_id="wf_abc123")
result = {"output": "Success", "duration_ms": 1500}
services.complete_stage(workflow_id="wf_abc123", stage_name="code_generation", result=result, at=at)
""",
    "workflow.completed": """
services.start_workflow(workflow_id="wf_abc123")
result = {"final_output": "Code generated successfully", "total_duration_ms": 5000}
services.complete_workflow(workflow_id="wf_abc123", result=result, at=at)
""",
    "workflow.failed": """
services.start_workflow(workflow_id="wf_abc123")
services.time_out_workflow(workflow_id="wf_abc123", error="Execution timeout", at=at)
""",
    "worker.status_changed": 'services.change_worker_status(worker_id="worker_001", status="busy", at=at)',
    # Five busy workers, two idle ones, ten stages queued and 150 done, all in one transaction.
    "pool.status_changed": """
with transaction.atomic():
    for number in range(2, 8):
        services.register_worker(worker_id=f"worker_00{number}", pool_id="pool_local")
    for number in range(1, 6):
        services.change_worker_status(worker_id=f"worker_00{number}", status="busy")
    names = [str(number) for number in range(160)]
    services.create_workflow(
        workflow_id="wf_long", adapter="python", prompt="", stages=names, pool_id="pool_local"
    )
    services.start_workflow(workflow_id="wf_long")
    for name in names[:10]:
        services.queue_stage(workflow_id="wf_long", stage_name=name)
    for name in names[10:]:
        services.complete_stage(workflow_id="wf_long", stage_name=name, at=at)
""",
}

CHANGE = """
from datetime import datetime
from django.db import transaction
from orchestration import services
from orchestration.models import Pool, Stage, Worker, Workflow

for model in (Stage, Workflow, Worker, Pool):
    model.objects.all().delete()
services.create_pool(pool_id="pool_local")
services.register_worker(worker_id="worker_001", pool_id="pool_local")
services.create_workflow(
    workflow_id="wf_abc123", adapter="llamaindex", prompt="Write code", stages=["code_generation", "review"]
)
at = datetime.fromisoformat(timestamp)
exec(change)
"""


@pytest.fixture(scope="module")
def server(start_module_server: StartServer) -> MahavishnuServer:
    """Start a server for this module alone, because other tests use the printed ids too."""
    return start_module_server()


def differences(expected: Any, actual: Any, path: str = "") -> list[str]:
    """Return the paths at which `actual` lacks a value of `expected`, or has another one."""
    if not isinstance(expected, dict):
        return [] if expected == actual and type(expected) is type(actual) else [f"{path}: {expected!r} != {actual!r}"]
    if not isinstance(actual, dict):
        return [f"{path}: expected an object, got {actual!r}"]
    return [
        difference
        for key, value in expected.items()
        for difference in (
            differences(value, actual[key], f"{path}.{key}") if key in actual else [f"{path}.{key} is missing"]
        )
    ]


def test_differences_lists_missing_and_different_values() -> None:
    expected = {"a": 1, "b": {"c": "x"}}
    assert differences(expected, {"a": 1, "b": {"c": "x", "d": 2}, "e": 3}) == []
    assert differences(expected, {"a": True, "b": {}}) == [".a: 1 != True", ".b.c is missing"]
    assert differences(expected, {"a": 1, "b": []}) == [".b: expected an object, got []"]


async def test_session_created_has_the_printed_fields(server: MahavishnuServer) -> None:
    async with connect(server) as client:
        welcome = client.welcome
    assert welcome["data"]["connection_id"] == A_UUID
    assert welcome["timestamp"] == A_TIME
    printed = MESSAGES["welcome"]
    printed = {**printed, "timestamp": welcome["timestamp"]}
    printed["data"] = {**printed["data"], "connection_id": welcome["data"]["connection_id"]}
    assert differences(printed, welcome) == []


async def test_every_printed_request_gets_the_printed_response(server: MahavishnuServer) -> None:
    server.services_driver.execute(STATE)
    async with connect(server) as client:
        for example in MESSAGES["requests"]:
            await client.send(example["request"])
            answer = await client.next()
            assert differences(example["response"], answer) == []
            assert (answer["id"], answer["timestamp"]) == (A_UUID, A_TIME)


@pytest.mark.parametrize("printed", MESSAGES["events"], ids=lambda printed: printed["event"])
async def test_every_printed_event_is_sent(server: MahavishnuServer, printed: dict[str, Any]) -> None:
    async with connect(server) as client:
        await client.subscribe(printed["room"])
        server.services_driver.execute(CHANGE, timestamp=printed["data"]["timestamp"], change=CHANGES[printed["event"]])
        # Preparing the state sends other events of the same name first, so skip those that differ.
        async with asyncio.timeout(30):
            while differences(printed, event := await client.event(printed["event"])) != []:
                pass
    assert (event["id"], event["timestamp"]) == (A_UUID, printed["data"]["timestamp"])


async def test_error_has_the_printed_fields(server: MahavishnuServer) -> None:
    printed = MESSAGES["error"]
    async with connect(server) as client:
        await client.send({"type": "request", "event": "nonsense", "data": {}, "id": "uuid (optional)"})
        answer = await client.next()
    assert (
        differences({**printed, "error_code": "UNKNOWN_REQUEST", "error_message": answer["error_message"]}, answer)
        == []
    )


async def test_request_of_best_practice_4_is_answered_with_its_id(server: MahavishnuServer) -> None:
    request_id = str(uuid4())
    request = {
        "type": "request",
        "event": "get_workflow_status",
        "data": {"workflow_id": "wf_123"},
        "id": request_id,
        "correlation_id": "my_request_123",
    }
    async with connect(server) as client:
        await client.send(request)
        assert await client.next() == an_error(
            "NOT_FOUND",
            "Workflow 'wf_123' not found",
            event="get_workflow_status",
            correlation_id=request_id,
        )


async def test_every_message_passes_the_validation_of_best_practice_3(server: MahavishnuServer) -> None:
    required = ["type", "event", "data"]
    async with connect(server) as client:
        await client.send_raw("not JSON")
        await client.send({"type": "ping"})
        await client.request("subscribe", channel="global")
        await client.request("subscribe", channel="nowhere")
        server.services_driver.execute(STATE)
        await client.event()
        messages = [client.welcome, *client.waiting()]
    assert all(key in message for message in messages for key in required)
    assert {message["type"] for message in messages} >= {"event", "error", "pong"}
