"""Runs that wait, on real workers: nothing holds a slot, and nothing is lost if a process is killed."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.api.http_calls import Answered, call
from tests.harness.client import connect
from tests.harness.engine import Engine
from tests.harness.waiting import eventually
from tests.worker.run_events import events_until, events_until_end

pytestmark = pytest.mark.both_databases


async def called(engine: Engine, path: str, body: Any, **keywords: Any) -> Answered:
    return await asyncio.to_thread(call, engine.server, "POST", path, body, **keywords)


async def test_answer_over_http_lets_the_run_continue(engine: Engine, pool: str) -> None:
    engine.worker(pool_id=pool)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_ask")
        engine.start("deployment", pool=pool, workflow_id="wf_ask", prompt="shop")
        *_, waiting = await events_until(client, "workflow.waiting")
        assert waiting["data"]["title"] == "Deploy app:1 for shop?"
        assert waiting["data"]["recipients"] == ["group:ops"]
        snapshot = (await client.request("subscribe", channel="workflow:wf_ask", snapshot=True))["data"]["snapshot"]
        stage = snapshot["stages"][1]
        wait_id = waiting["data"]["wait_id"]
        assert (stage["status"], stage["wait"]["name"], stage["wait"]["wait_id"]) == ("waiting", "approve", wait_id)
        path = "workflows/wf_ask/waits/approve/answer"
        refused = await called(engine, path, {"answer": {"approved": "yes"}})
        assert (refused.status, refused.code) == (422, "INVALID_ANSWER")
        assert refused.body["errors"] == [{"path": "body.answer.approved", "detail": "Expected `bool`, got `str`"}]
        outdated = await called(engine, path, {"answer": {"approved": True}, "wait_id": wait_id + 1_000_000})
        assert (outdated.status, outdated.code) == (409, "WAIT_CLOSED")
        answered = await called(engine, path, {"answer": {"approved": True}, "wait_id": wait_id})
        assert (answered.status, answered.body["changed"]) == (200, True), answered.text
        events = await events_until_end(client)
        again = await called(engine, path, {"answer": {"approved": False}})
    assert (again.status, again.code) == (409, "ALREADY_ANSWERED")
    names = [event["event"] for event in events]
    assert names.index("workflow.wait_answered") < names.index("workflow.stage_completed")
    stored = engine.workflow("wf_ask")
    assert stored["result"]["final_output"] == {"approved": True, "comment": "", "by": "", "expired": False}
    engine.assert_counters_match(pool)


async def test_fifty_open_questions_hold_no_slot_of_a_pool_with_one(engine: Engine, pool: str) -> None:
    engine.worker(pool_id=pool)
    runs = [f"wf_many_{number}" for number in range(50)]
    for run in runs:
        engine.start("deployment", pool=pool, workflow_id=run)
    await eventually(lambda: open_waits(engine, "wf_many_") == 50, what="all runs ask")
    engine.start("nap", pool=pool, workflow_id="wf_other", seconds=0.01)
    await eventually(lambda: engine.workflow("wf_other")["status"] == "completed", what="another run ends")
    for run in runs:
        answered = await called(engine, f"workflows/{run}/waits/approve/answer", {"answer": {"approved": True}})
        assert answered.status == 200, answered.text
    await eventually(
        lambda: {engine.workflow(run)["status"] for run in runs} == {"completed"}, what="the runs end after the answers"
    )
    engine.assert_counters_match(pool)


def open_waits(engine: Engine, prefix: str) -> int:
    found: int = engine.execute(
        "from orchestration.models import Wait\n"
        "result = Wait.objects.filter(workflow__id__startswith=prefix, status='open').count()",
        prefix=prefix,
    )
    return found


async def test_two_answers_at_once_have_one_winner(engine: Engine, pool: str) -> None:
    engine.worker(pool_id=pool)
    engine.start("deployment", pool=pool, workflow_id="wf_race")
    await eventually(lambda: open_waits(engine, "wf_race") == 1, what="the run asks")
    path = "workflows/wf_race/waits/approve/answer"
    answers = [{"answer": {"approved": number == 0, "comment": str(number)}} for number in range(4)]
    given = await asyncio.gather(*(called(engine, path, answer) for answer in answers))
    assert sorted(answer.status for answer in given) == [200, 409, 409, 409]
    assert {answer.code for answer in given} == {None, "ALREADY_ANSWERED"}
    await eventually(lambda: engine.workflow("wf_race")["status"] == "completed", what="the run ends")
    winner = next(number for number, answer in enumerate(given) if answer.status == 200)
    assert engine.workflow("wf_race")["result"]["final_output"]["comment"] == str(winner)


async def test_link_answers_without_a_token_and_once(engine: Engine, pool: str) -> None:
    engine.worker(pool_id=pool)
    engine.start("deployment", pool=pool, workflow_id="wf_link")
    await eventually(lambda: open_waits(engine, "wf_link") == 1, what="the run asks")
    code = "from orchestration.sdk import Run\nresult = Run('wf_link').answer_link('approve', by='mail')"
    path = engine.execute(code).removeprefix("/api/v1/")
    assert (await called(engine, path, {"answer": {}})).code == "INVALID_ANSWER"
    unknown = await called(engine, f"{path}x", {"answer": {"approved": True}})
    assert (unknown.status, unknown.code) == (404, "NOT_FOUND")
    assert unknown.body["detail"].startswith("Unknown answer link")
    over = engine.execute(code.replace("by='mail'", "valid_seconds=0.001")).removeprefix("/api/v1/")
    refused = await called(engine, over, {"answer": {"approved": True}})
    assert (refused.status, refused.code) == (409, "WAIT_EXPIRED")
    assert (await called(engine, path, {"answer": {"approved": True}})).status == 200
    assert (await called(engine, path, {"answer": {"approved": False}})).code == "ALREADY_ANSWERED"
    await eventually(lambda: engine.workflow("wf_link")["status"] == "completed", what="the run ends")
    assert engine.workflow("wf_link")["result"]["final_output"]["by"] == "mail"


async def test_worker_that_is_killed_while_a_question_is_open_costs_nothing(engine: Engine, pool: str) -> None:
    worker = engine.worker(pool_id=pool)
    engine.start("deployment", pool=pool, workflow_id="wf_kill")
    engine.start("nap", pool=pool, workflow_id="wf_nap", seconds=2)
    await eventually(lambda: open_waits(engine, "wf_kill") == 1, what="the run asks")
    await eventually(lambda: open_waits(engine, "wf_nap") == 1, what="the other run sleeps")
    worker.kill_with_children()
    answered = await called(engine, "workflows/wf_kill/waits/approve/answer", {"answer": {"approved": True}})
    assert answered.status == 200, answered.text
    engine.worker(pool_id=pool)
    runs = ("wf_kill", "wf_nap")
    await eventually(lambda: {engine.workflow(run)["status"] for run in runs} == {"completed"}, what="both runs end")
    assert [engine.workflow(run)["failed_attempts"] for run in runs] == [[], []]


async def test_stage_that_waits_inside_continues_in_another_process(engine: Engine, pool: str) -> None:
    worker = engine.worker(pool_id=pool)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_inside")
        engine.start("payments", pool=pool, workflow_id="wf_inside")
        await events_until(client, "workflow.waiting")
        worker.kill_with_children()
        refused = await called(engine, "workflows/wf_inside/signals/paid", {"payload": {"amount": "x"}})
        assert (refused.status, refused.body["errors"][0]["path"]) == (422, "body.payload.amount")
        invalid = await called(engine, "workflows/wf_inside/signals/p%20id", {"payload": {"amount": 1}})
        assert (invalid.status, invalid.code) == (422, "INVALID_PARAMETERS")
        assert invalid.body["errors"][0]["path"] == "path.name"
        assert (await called(engine, "workflows/wf_inside/signals/paid", {"payload": {"amount": 1}})).status == 200
        engine.worker(pool_id=pool)
        await events_until(client, "workflow.waiting")
        assert (await called(engine, "workflows/wf_inside/signals/paid", {"payload": 2})).status == 200
        await events_until_end(client)
    output = engine.workflow("wf_inside")["result"]["final_output"]
    assert output == {"order": 7, "first": 1, "second": 2, "attempt": 3}
    engine.assert_counters_match(pool)


async def test_llamaindex_workflow_continues_in_another_worker_after_each_answer(
    engine: Engine, pool: str, tmp_path: Path
) -> None:
    worker = engine.worker(pool_id=pool)
    journal = tmp_path / "journal"
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_flow")
        engine.start("flow_with_questions", pool=pool, workflow_id="wf_flow", journal=str(journal))
        *_, waiting = await events_until(client, "workflow.waiting")
        assert (waiting["data"]["wait_name"], waiting["data"]["title"]) == ("question-1", "Who deploys?")
        worker.kill_with_children()
        path = "workflows/wf_flow/waits/question-{}/answer"
        refused = await called(engine, path.format(1), {"answer": {"name": "Ada"}})
        assert (refused.status, refused.code) == (422, "INVALID_ANSWER")
        assert (await called(engine, path.format(1), {"answer": "Ada"})).status == 200
        worker = engine.worker(pool_id=pool)
        *_, waiting = await events_until(client, "workflow.waiting")
        assert waiting["data"]["title"] == "May Ada deploy app:7?"
        assert waiting["data"]["schema"]["required"] == ["approved"]
        worker.kill_with_children()
        assert (await called(engine, path.format(2), {"answer": {"approved": True}})).status == 200
        engine.worker(pool_id=pool)
        await events_until_end(client)
    stored = engine.workflow("wf_flow")
    assert stored["result"]["final_output"] == {"image": "app:7", "name": "Ada", "approved": True}
    assert (stored["failed_attempts"], journal.read_text().splitlines()) == ([], ["build", "named Ada"])
    engine.assert_counters_match(pool)
