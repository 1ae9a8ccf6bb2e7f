"""Runs as a subscriber hears of them, and as they are stored."""

from __future__ import annotations

import pytest

from tests.harness.client import connect
from tests.harness.engine import FIND, Engine
from tests.harness.engine_fixtures import Files
from tests.worker.run_events import eventually, in_short, told, until, until_the_end


async def test_a_run_is_told_from_its_start_to_its_end(engine: Engine, pool: str) -> None:
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_look")
        engine.worker(pool_id=pool)
        engine.start("look_around", pool=pool, prompt="me", workflow_id="wf_look", far=True)
        events = await until_the_end(client)
    about = {"workflow_id": "wf_look"}
    worker_id = f"{pool}-test-1"
    inputs = {"prompt": "me", "far": True}

    def started(name: str) -> tuple[str, dict[str, object]]:
        return "workflow.stage_started", {**about, "stage_name": name, "worker_id": worker_id}

    def completed(name: str, output: object) -> tuple[str, dict[str, object]]:
        return "workflow.stage_completed", {**about, "stage_name": name, "result": {"output": output}}

    def progress(value: float, message: str) -> tuple[str, dict[str, object]]:
        data = {**about, "stage_name": "review", "progress": value, "message": message}
        return "workflow.stage_progress", data

    assert [told(event) for event in events] == [
        ("workflow.created", {**about, "adapter": "python", "prompt": "me", "total_stages": 4}),
        ("workflow.started", {**about, "adapter": "python", "prompt": "me"}),
        started("plan"),
        completed("plan", {"inputs": inputs, "attempt": 1}),
        started("left"),
        ("workflow.stage_log", {**about, "stage_name": "left", "message": "Looking left of me"}),
        completed("left", "left"),
        started("right"),
        completed("right", "right"),
        started("review"),
        progress(0.5, "Half way"),
        progress(1, "Told at the end"),
        completed("review", ["left", "right"]),
        ("workflow.completed", {**about, "result": {"final_output": ["left", "right"]}}),
    ]
    engine.assert_adds_up(pool)


@pytest.mark.parametrize(
    ("prompt", "error"),
    [
        ("too large", "The stage returned 2000002 bytes of JSON: at most 1048576 are stored. "
                      "Store it elsewhere and return where."),
        ("not JSON", "The stage returned a dict, which is not JSON: Object of type set is not JSON serializable"),
        ("not a number", "The stage returned a float, which is not JSON: Out of range float values are not JSON "
                         "compliant"),
        ("unpicklable", "Unpicklable: It broke in two lines"),
        ("speechless", "LookupError"),
        ("exits", "SystemExit: 3"),
        ("silent", "The stage returned what cannot be stored: expected a JSON object at most 100 deep, without NaN, "
                   "infinity, NUL or half a surrogate pair"),
    ],
)  # fmt: skip
async def test_a_stage_that_misbehaves_fails_its_run_in_clean_words(failures: Engine, prompt: str, error: str) -> None:
    workflow_id = f"wf_{prompt.replace(' ', '_')}"
    async with connect(failures.server) as client:
        await client.subscribe(f"workflow:{workflow_id}")
        failures.start("failing", pool="failures", prompt=prompt, workflow_id=workflow_id)
        events = await until_the_end(client)
    about = {"workflow_id": workflow_id}
    assert [told(event) for event in events[-2:]] == [
        ("workflow.stage_failed", {**about, "stage_name": "misbehaving", "error": error}),
        ("workflow.failed", {**about, "error": f"The stage misbehaving failed: {error}", "status": "failed"}),
    ]
    assert failures.workflow(workflow_id)["failed_attempts"] == [["misbehaving", 1, "failed", error]]
    failures.assert_adds_up("failures")


async def test_a_traceback_is_kept_for_operators_and_not_told(failures: Engine) -> None:
    async with connect(failures.server) as client:
        await client.subscribe("workflow:wf_traced")
        failures.start("failing", pool="failures", prompt="unpicklable", workflow_id="wf_traced")
        events = await until_the_end(client)
    code = "from orchestration.models import FailedAttempt\n"
    code += "result = FailedAttempt.objects.get(stage__workflow_id='wf_traced').traceback"
    assert "raise Unpicklable\n" in failures.execute(code)
    assert "raise Unpicklable" not in str(events)


async def test_a_stage_is_tried_as_often_as_it_says(engine: Engine, pool: str) -> None:
    engine.worker(pool_id=pool)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_third_time")
        await client.subscribe("workflow:wf_never")
        engine.start("persistent", pool=pool, workflow_id="wf_third_time", succeeds_at=3)
        third_time = await until_the_end(client)
        engine.start("persistent", pool=pool, workflow_id="wf_never", succeeds_at=4)
        never = await until_the_end(client)
    begins = ["workflow.created", "workflow.started", "workflow.stage_started first", "workflow.stage_completed first"]
    tries = [
        "workflow.stage_started flaky",
        "workflow.stage_retrying flaky 1 failed",
        "workflow.stage_started flaky",
        "workflow.stage_retrying flaky 2 failed",
        "workflow.stage_started flaky",
    ]
    assert in_short(third_time) == [*begins, *tries, "workflow.stage_completed flaky", "workflow.completed"]
    assert in_short(never) == [*begins, *tries, "workflow.stage_failed flaky", "workflow.failed"]
    assert engine.workflow("wf_never")["failed_attempts"] == [
        ["flaky", number, "failed", f"ConnectionError: Nobody answered attempt {number}"] for number in (1, 2, 3)
    ]
    engine.assert_adds_up(pool)


RETRY = FIND + "from orchestration.sdk import Run\nRun(workflow_id).retry(**options)"


async def test_a_finished_run_is_run_again_from_where_it_is_told(engine: Engine, pool: str, files: Files) -> None:
    engine.worker(pool_id=pool)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_again")
        engine.start("persistent", pool=pool, workflow_id="wf_again", succeeds_at=4)
        await until_the_end(client)
        engine.execute(RETRY, workflow_id="wf_again", options={})
        again = await until_the_end(client)
        assert in_short(again) == [
            "workflow.started",
            "workflow.stage_started flaky",
            "workflow.stage_completed flaky",
            "workflow.completed",
        ]
        engine.execute(RETRY, workflow_id="wf_again", options={"from_stage": "first"})
        whole = await until_the_end(client)
    assert in_short(whole)[1:4:2] == ["workflow.stage_started first", "workflow.stage_started flaky"]
    assert told(whole[-1])[1]["result"] == {"final_output": 5}
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
definition = find_definition("persistent")
run = definition.start("once", key="ticket-42", pool=pool, succeeds_at=1)
again = definition.start("twice", key="ticket-42", pool=pool, succeeds_at=1)
output = run.wait(timeout_seconds=30)

async def twins():
    other = await definition.astart(pool=pool, succeeds_at=9)
    try:
        await other.awaited(timeout_seconds=30)
    except RunFailed as error:
        return [error.status, error.error]

result = [run.workflow_id == again.workflow_id, run.workflow.prompt, output, *asyncio.run(twins())]
"""
)


def test_the_same_key_starts_a_run_once_and_code_can_wait_for_its_end(engine: Engine, pool: str) -> None:
    engine.worker(pool_id=pool)
    error = "The stage flaky failed: ConnectionError: Nobody answered attempt 3"
    assert engine.execute(FROM_CODE, pool=pool) == [True, "once", 1, "failed", error]


async def test_a_run_that_takes_too_long_times_out(engine: Engine, pool: str, files: Files) -> None:
    engine.worker(pool_id=pool)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_late")
        engine.start("late", pool=pool, workflow_id="wf_late", **files.params)
        events = await until(client, "workflow.failed")
    data = {"workflow_id": "wf_late", "error": "Execution timeout", "status": "timeout"}
    assert told(events[-1]) == ("workflow.failed", data)
    await eventually(lambda: engine.workers(pool) == ["idle"], what="the worker is free again")
    engine.assert_adds_up(pool)
