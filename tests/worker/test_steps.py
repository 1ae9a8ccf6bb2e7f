"""Steps of stages in real workers: what was paid for is not paid for twice."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.client import connect
from tests.harness.engine import CeleryWorker, Engine
from tests.harness.engine_fixtures import Files
from tests.harness.waiting import wait_until
from tests.worker.run_events import events_until_end

pytestmark = pytest.mark.both_databases

RECORDS = """
from orchestration.models import StepRecord
records = StepRecord.objects.filter(stage__workflow_id=workflow_id).order_by("name")
result = [(each.name, each.attempt, each.output) for each in records]
"""


def records(engine: Engine, workflow_id: str) -> list[list[Any]]:
    return list(engine.execute(RECORDS, workflow_id=workflow_id))


END_ATTEMPT = """
from orchestration import services
from orchestration.models import Stage, Worker
stage = Stage.objects.get(workflow_id=workflow_id)
worker = Worker.objects.get(pk=stage.worker_id)
slot = services.Slot(worker_id=worker.pk, process=worker.process)
result = services.release_attempt(stage.pk, 1, slot=slot, error="It seemed lost", reason="lost").accepted
"""


def journal_has(files: Files, line: str) -> None:
    wait_until(lambda: line in files.journal(), timeout_seconds=60, what=lambda: str(files.journal()))


def completed(engine: Engine, workflow_id: str) -> dict[str, Any]:
    wait_until(
        lambda: engine.workflow(workflow_id)["status"] == "completed",
        timeout_seconds=60,
        what=lambda: str(engine.workflow(workflow_id)),
    )
    return engine.workflow(workflow_id)


async def test_killed_stage_repeats_no_completed_step(
    engine: Engine, shared_worker: CeleryWorker, files: Files
) -> None:
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_sync_agent")
        engine.start("sync_agent", pool=shared_worker.pool_id, workflow_id="wf_sync_agent", **files.params)
        journal_has(files, "pauses 1")
        shared_worker.children()[0].kill()
        files.open_gate()
        events = await events_until_end(client)
    answers = [f"answer {turn}" for turn in range(4)]
    stored = engine.workflow("wf_sync_agent")
    assert stored["result"]["final_output"] == answers
    assert [attempt[1:3] for attempt in stored["failed_attempts"]] == [[1, "lost"]]
    assert files.journal() == ["paid 0 1", "paid 1 1", "pauses 1", "pauses 2", "paid 2 2", "paid 3 2"]
    assert records(engine, "wf_sync_agent") == [
        [f"turn-{turn}", 1 if turn < 2 else 2, answer] for turn, answer in enumerate(answers)
    ]
    steps = [event["data"] for event in events if event["event"] == "workflow.step_completed"]
    # The first step of each attempt is sent at once, and the last one at the end: the throttle holds the others back.
    assert [(step["step_name"], step["cached"], step["steps_completed"]) for step in steps] == [
        ("turn-0", False, 1),
        ("turn-0", True, 1),
        ("turn-3", False, 4),
    ]


def test_killed_coroutine_stage_repeats_no_completed_step(
    engine: Engine, shared_worker: CeleryWorker, files: Files
) -> None:
    run = engine.start("async_agent", pool=shared_worker.pool_id, workflow_id="wf_async_agent", **files.params)
    journal_has(files, "pauses 1")
    shared_worker.children()[0].kill()
    files.open_gate()
    assert completed(engine, run)["result"]["final_output"] == ["answer 0", "answer 1", "answer 2"]
    journal = files.journal()
    assert sorted(journal[:2]) == ["paid 0 1", "paid 1 1"]
    assert journal[2:] == ["pauses 1", "pauses 2", "paid 2 2"]


def test_lost_attempt_whose_process_still_runs_cannot_execute_or_store_a_step(
    engine: Engine, patient_worker: CeleryWorker, files: Files
) -> None:
    run = engine.start("zombie", pool=patient_worker.pool_id, workflow_id="wf_zombie", **files.params)
    journal_has(files, "begins 1")
    engine.execute(END_ATTEMPT, workflow_id=run)
    files.open_gate()
    stored = completed(engine, run)
    assert stored["result"]["final_output"] == "paid by 2"
    refused = [line for line in files.journal() if line.startswith("refused")]
    assert refused == ["refused Attempt 1 is no longer the running one of its stage."]
    assert "paid by the zombie" not in files.journal()
    assert records(engine, run) == [["once", 2, "paid by 2"]]
