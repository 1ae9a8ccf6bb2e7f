"""Waits while processes are killed: nothing is lost, and nothing happens twice."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from tests.api.http_calls import call
from tests.harness.client import connect
from tests.harness.engine import CeleryWorker, Engine
from tests.harness.engine_fixtures import FAST_POLLING, JOBS, Files
from tests.harness.fixtures import StartServer
from tests.harness.waiting import wait_until
from tests.worker.run_events import events_until, events_until_end

pytestmark = pytest.mark.both_databases

WAITS = 300

OPEN_WAITS = """
from datetime import timedelta
from orchestration import services
from orchestration.db.clock import database_now
from orchestration.models import Wait
from orchestration.plan import Plan, StagePlan, WaitPlan
wait = WaitPlan(kind="ask", name="go", timeout_seconds=3600, on_timeout={"value": False})
plan = Plan(name="asks", adapter="python", stages=(StagePlan(name="go", step=0, wait=wait),))
slot = services.Slot(worker_id=services.join_pool(name="w", process="w", pool_id=pool), process="w")
for number in range(count):
    run = services.start_run(plan, prompt="", params={}, pool_id=pool, workflow_id=f"wf_{number}")
    stage_id = run.stages.get().pk
    services.claim_stage(stage_id, 1, slot=slot)
    services.open_wait(stage_id, 1, slot=slot, wait=wait)
Wait.objects.exclude(workflow="wf_0").update(due_at=database_now() - timedelta(seconds=1))
"""

LAST_DUE = """
from datetime import timedelta
from orchestration.db.clock import database_now
from orchestration.models import Wait
Wait.objects.filter(workflow="wf_0").update(due_at=database_now() - timedelta(seconds=1))
"""

EXPIRED = """
from orchestration.models import Wait, Workflow
from realtime.models import Event
events = Event.objects.filter(name="workflow.wait_expired").count()
expired = Wait.objects.filter(status="expired").count()
result = [expired, events, Workflow.objects.filter(status="completed").count()]
"""


@pytest.fixture
def own_engine(start_server: StartServer) -> Iterator[Engine]:
    """Return an engine whose server and schedulers the test may kill. It has no scheduler yet."""
    engine = Engine(start_server(environment={**JOBS, **FAST_POLLING}))
    yield engine
    engine.close()


async def test_question_is_answered_after_a_restart_of_the_server(own_engine: Engine, pool: str) -> None:
    server = own_engine.server
    own_engine.worker(pool_id=pool)
    async with connect(server) as client:
        await client.subscribe("workflow:wf_ask")
        own_engine.start("deployment", pool=pool, workflow_id="wf_ask")
        *_, waiting = await events_until(client, "workflow.waiting")
    server.kill()
    server.start()
    async with connect(server) as client:
        listed = (await client.request("list_waits", to="group:ops"))["data"]["waits"]
        assert [(each["workflow_id"], each["name"]) for each in listed] == [("wf_ask", "approve")]
        subscribed = await client.request("subscribe", channel="workflow:wf_ask", since=waiting["seq"], snapshot=True)
        assert subscribed["data"]["snapshot"]["stages"][1]["wait"]["name"] == "approve"
        path = "workflows/wf_ask/waits/approve/answer"
        answered = await asyncio.to_thread(call, server, "POST", path, {"answer": {"approved": True}})
        assert answered.status == 200, answered.text
        events = await events_until_end(client)
    assert [event["event"] for event in events].count("workflow.wait_answered") == 1
    assert own_engine.workflow("wf_ask")["result"]["final_output"]["approved"] is True
    own_engine.assert_counters_match(pool)


def test_waits_expire_once_although_the_scheduler_is_killed_meanwhile(own_engine: Engine, pool: str) -> None:
    own_engine.execute(OPEN_WAITS, pool=pool, count=WAITS)
    first = own_engine.scheduler()
    wait_until(lambda: own_engine.execute(EXPIRED)[0] > 0, timeout_seconds=60, what="the first waits expire")
    first.kill()
    # One at least is left for the second scheduler.
    own_engine.execute(LAST_DUE)
    assert own_engine.execute(EXPIRED)[0] < WAITS
    own_engine.scheduler()
    wait_until(
        lambda: own_engine.execute(EXPIRED) == [WAITS, WAITS, WAITS],
        timeout_seconds=120,
        what=lambda: str(own_engine.execute(EXPIRED)),
    )
    own_engine.assert_counters_match(pool)


async def test_stage_that_is_killed_after_its_signal_repeats_no_step(
    engine: Engine, shared_worker: CeleryWorker, files: Files
) -> None:
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_ship")
        engine.start("shipment", pool=shared_worker.pool_id, workflow_id="wf_ship", **files.params)
        await events_until(client, "workflow.waiting")
        path = "workflows/wf_ship/signals/paid"
        sent = await asyncio.to_thread(call, engine.server, "POST", path, {"payload": {"amount": 5}})
        assert sent.status == 200, sent.text
        await asyncio.to_thread(
            wait_until, lambda: "ships 2" in files.journal(), timeout_seconds=60, what=lambda: str(files.journal())
        )
        shared_worker.children()[0].kill()
        files.open_gate()
        events = await events_until_end(client)
    assert files.journal() == ["order", "book 5", "ships 2", "ships 3"]
    stored = engine.workflow("wf_ship")
    assert stored["result"]["final_output"] == {"amount": 5, "attempt": 3}
    assert [attempt[1:3] for attempt in stored["failed_attempts"]] == [[2, "lost"]]
    assert [event["event"] for event in events].count("workflow.waiting") == 0
