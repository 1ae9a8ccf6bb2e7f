"""Runs whose stages add steps, on real workers that are killed."""

from __future__ import annotations

from tests.harness.client import connect
from tests.harness.engine import Engine
from tests.harness.engine_fixtures import Files
from tests.harness.waiting import eventually
from tests.worker.run_events import events_until_end


async def test_turn_whose_process_is_killed_runs_again_and_adds_its_steps_once(
    engine: Engine, pool: str, files: Files
) -> None:
    worker = engine.worker(pool_id=pool)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_agent")
        engine.start("agent_loop", pool=pool, workflow_id="wf_agent", turns=4, gated_turn=3, **files.params)
        await eventually(lambda: len(files.journal()) == 3, what="the third turn begins")
        (child,) = worker.children()
        child.kill()
        await eventually(lambda: len(files.journal()) == 4, what="the third turn begins again")
        files.open_gate()
        events = await events_until_end(client)
    assert files.journal() == [
        "agent_turn 1",
        "agent_turn_2 2",
        "agent_turn_3 3",
        "agent_turn_3 3",
        "agent_turn_4 4",
        "report",
    ]
    added = [event["data"]["stage_name"] for event in events if event["event"] == "workflow.stage_added"]
    assert added == ["agent_turn_2", "agent_turn_3", "agent_turn_4"]
    stored = engine.workflow("wf_agent")
    assert (stored["status"], [name for name, *_ in stored["failed_attempts"]]) == ("completed", ["agent_turn_3"])
    engine.assert_counters_match(pool)
