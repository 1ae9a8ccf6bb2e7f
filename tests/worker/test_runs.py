"""Runs as a subscriber receives them, and as they are stored."""

from __future__ import annotations

import pytest

from tests.harness.client import connect
from tests.harness.engine import FIND, Engine
from tests.harness.engine_fixtures import Files
from tests.harness.matchers import A_NUMBER
from tests.harness.waiting import eventually
from tests.worker.run_events import events_until, events_until_end, outline, untimed


async def test_run_sends_all_its_events_from_start_to_end(engine: Engine, shared_pool: str) -> None:
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_look")
        engine.start("look_around", pool=shared_pool, prompt="me", workflow_id="wf_look", far=True)
        events = await events_until_end(client)
    about = {"workflow_id": "wf_look"}
    worker_id = f"{shared_pool}-test-1"
    inputs = {"prompt": "me", "far": True}

    def started(name: str) -> tuple[str, dict[str, object]]:
        return "workflow.stage_started", {**about, "stage_name": name, "worker_id": worker_id, "attempt": 1}

    def completed(name: str, output: object, stages_completed: int) -> tuple[str, dict[str, object]]:
        data = {**about, "stage_name": name, "result": {"output": output}, "stages_completed": stages_completed}
        return "workflow.stage_completed", data

    def queued(name: str) -> tuple[str, dict[str, object]]:
        return "workflow.stages_queued", {**about, "stages": [name], "step": None, "count": 1}

    def progress(value: float, message: str) -> tuple[str, dict[str, object]]:
        data = {**about, "stage_name": "review", "progress": value, "message": message}
        return "workflow.stage_progress", data

    named = {**about, "name": "look_around"}
    stages = [
        {"stage_name": name, "step": step, "last_attempt": 1}
        for name, step in (("plan", 0), ("left", 1), ("right", 1), ("review", 2))
    ]
    created = {"total_stages": 4, "pool_id": shared_pool, "params": {"far": True}, "deadline_at": None}
    assert [untimed(event) for event in events] == [
        ("workflow.created", {**named, "adapter": "python", "prompt": "me", **created, "stages": stages}),
        ("workflow.started", {**named, "adapter": "python", "prompt": "me"}),
        queued("plan"),
        started("plan"),
        completed("plan", {"inputs": inputs, "attempt": 1}, 1),
        # The worker continues with one of them at once, and the other is queued.
        started("left"),
        queued("right"),
        ("workflow.stage_log", {**about, "stage_name": "left", "message": "Looking left of me"}),
        completed("left", "left", 2),
        started("right"),
        completed("right", "right", 3),
        started("review"),
        progress(0.5, "Half way"),
        progress(1, "Sent at the end"),
        completed("review", ["left", "right"], 4),
        ("workflow.completed", {**named, "result": {"final_output": ["left", "right"]}}),
    ]
    ends = [event["data"] for event in events if event["event"] == "workflow.stage_completed"]
    assert [end["duration_ms"] for end in ends] == [end["result"]["duration_ms"] for end in ends]
    engine.assert_counters_match(shared_pool)


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        ("too large", "The stage returned 2000002 bytes of JSON; at most 1048576 are stored. "
                      "Store the data elsewhere and return its location."),
        ("not JSON", "The stage returned a dict, which is not JSON: Object of type object is not JSON serializable"),
        ("not a number", "The stage returned a float, which is not JSON: Out of range float values are not JSON "
                         "compliant"),
        ("unpicklable", "Unpicklable: It broke in two lines"),
        ("no message", "LookupError"),
        ("exits", "SystemExit: 3"),
        ("NUL", "The stage returned a value that cannot be stored: expected a JSON object at most 100 deep, without "
                "NaN, infinity, NUL or half a surrogate pair"),
    ],
)  # fmt: skip
async def test_misbehaving_stage_fails_its_run_with_a_readable_error(
    engine: Engine, shared_pool: str, prompt: str, error: str
) -> None:
    workflow_id = f"wf_{prompt.replace(' ', '_')}"
    async with connect(engine.server) as client:
        await client.subscribe(f"workflow:{workflow_id}")
        engine.start("failing", pool=shared_pool, prompt=prompt, workflow_id=workflow_id)
        events = await events_until_end(client)
    about = {"workflow_id": workflow_id}
    run_error = f"The stage misbehaving failed: {error}"
    assert [untimed(event) for event in events[-2:]] == [
        ("workflow.stage_failed", {**about, "stage_name": "misbehaving", "error": error, "last_attempt": 1}),
        ("workflow.failed", {**about, "name": "failing", "error": run_error, "status": "failed"}),
    ]
    assert events[-2]["data"]["duration_ms"] == A_NUMBER
    assert engine.workflow(workflow_id)["failed_attempts"] == [["misbehaving", 1, "failed", error]]
    engine.assert_counters_match(shared_pool)


async def test_traceback_is_stored_and_not_sent(engine: Engine, shared_pool: str) -> None:
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_traced")
        engine.start("failing", pool=shared_pool, prompt="unpicklable", workflow_id="wf_traced")
        events = await events_until_end(client)
    code = "from orchestration.models import FailedAttempt\n"
    code += "result = FailedAttempt.objects.get(stage__workflow_id='wf_traced').traceback"
    assert "raise Unpicklable\n" in engine.execute(code)
    assert "raise Unpicklable" not in str(events)


async def test_stage_is_retried_up_to_its_maximum_attempts(engine: Engine, shared_pool: str) -> None:
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_third_time")
        await client.subscribe("workflow:wf_never")
        engine.start("retried", pool=shared_pool, workflow_id="wf_third_time", succeeds_at=3)
        third_time = await events_until_end(client)
        engine.start("retried", pool=shared_pool, workflow_id="wf_never", succeeds_at=4)
        never = await events_until_end(client)
    begins = [
        "workflow.created",
        "workflow.started",
        "workflow.stages_queued first",
        "workflow.stage_started first",
        "workflow.stage_completed first",
    ]
    tries = [
        "workflow.stage_started flaky",
        "workflow.stage_retrying flaky 1 failed",
        "workflow.stages_queued flaky",
        "workflow.stage_started flaky",
        "workflow.stage_retrying flaky 2 failed",
        "workflow.stages_queued flaky",
        "workflow.stage_started flaky",
    ]
    assert outline(third_time) == [*begins, *tries, "workflow.stage_completed flaky", "workflow.completed"]
    assert outline(never) == [*begins, *tries, "workflow.stage_failed flaky", "workflow.failed"]
    assert engine.workflow("wf_never")["failed_attempts"] == [
        ["flaky", number, "failed", f"ConnectionError: No answer to attempt {number}"] for number in (1, 2, 3)
    ]
    engine.assert_counters_match(shared_pool)


RETRY = FIND + "from orchestration.sdk import Run\nRun(workflow_id).retry(**options)"


async def test_finished_run_can_be_retried_from_a_stage(engine: Engine, pool: str, files: Files) -> None:
    # Not in the shared pool: its totals also count what is run again.
    engine.worker(pool_id=pool)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_again")
        engine.start("retried", pool=pool, workflow_id="wf_again", succeeds_at=4)
        await events_until_end(client)
        engine.execute(RETRY, workflow_id="wf_again", options={})
        again = await events_until_end(client)
        begins = ["workflow.retried", "workflow.started"]
        ends = ["workflow.stage_started flaky", "workflow.stage_completed flaky", "workflow.completed"]
        assert outline(again) == [*begins, "workflow.stages_queued flaky", *ends]
        engine.execute(RETRY, workflow_id="wf_again", options={"from_stage": "first"})
        whole = await events_until_end(client)
    first = ["workflow.stages_queued first", "workflow.stage_started first", "workflow.stage_completed first"]
    assert outline(whole) == [*begins, *first, *ends]
    assert untimed(whole[-1])[1]["result"] == {"final_output": 5}
    stored = engine.workflow("wf_again")
    assert {name: (each["status"], each["attempt"]) for name, each in stored["stages"].items()} == {
        "first": ("completed", 2),
        "flaky": ("completed", 5),
    }


FROM_CODE = (
    FIND
    + """
import asyncio
from orchestration.sdk import RunFailed
definition = find_definition("retried")
run = definition.start("once", key="ticket-42", pool=pool, succeeds_at=1)
again = definition.start("once", key="ticket-42", pool=pool, succeeds_at=1)
output = run.wait(timeout_seconds=30)

async def start_async():
    other = await definition.astart(pool=pool, succeeds_at=9)
    try:
        await other.awaited(timeout_seconds=30)
    except RunFailed as error:
        return [error.status, error.error]

result = [run.workflow_id == again.workflow_id, run.workflow.prompt, output, *asyncio.run(start_async())]
"""
)


def test_same_key_starts_one_run_and_code_can_wait_for_it(engine: Engine, shared_pool: str) -> None:
    error = "The stage flaky failed: ConnectionError: No answer to attempt 3"
    assert engine.execute(FROM_CODE, pool=shared_pool) == [True, "once", 1, "failed", error]


async def test_overdue_run_times_out(engine: Engine, shared_pool: str, files: Files) -> None:
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_late")
        engine.start("overdue", pool=shared_pool, workflow_id="wf_late", **files.params)
        events = await events_until(client, "workflow.failed")
    data = {"workflow_id": "wf_late", "name": "overdue", "error": "Execution timeout", "status": "timeout"}
    assert untimed(events[-1]) == ("workflow.failed", data)
    await eventually(lambda: engine.workers(shared_pool) == ["idle"], what="the worker is free again")
    engine.assert_counters_match(shared_pool)
