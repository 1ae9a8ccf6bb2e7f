"""Atomic stages in real workers: the rows of the stage exist exactly once, and exactly if the stage is completed."""

from __future__ import annotations

from typing import Any

import pytest

from tests.harness.client import connect
from tests.harness.engine import CeleryWorker, Engine
from tests.harness.engine_fixtures import Files
from tests.worker.run_events import events_until_end

pytestmark = pytest.mark.both_databases

ROWS = """
from django.contrib.auth.models import Group
result = sorted(Group.objects.filter(name__startswith=workflow_id + " ").values_list("name", flat=True))
"""


def rows(engine: Engine, workflow_id: str) -> list[str]:
    return list(engine.execute(ROWS, workflow_id=workflow_id))


async def end_of(engine: Engine, worker: CeleryWorker, files: Files, prompt: str) -> tuple[str, dict[str, Any], Any]:
    """Run the booking to its end. Return its id, its stored fields, and the events of its channel."""
    workflow_id = f"wf_{prompt.replace(' ', '_')}"
    async with connect(engine.server) as client:
        await client.subscribe(f"workflow:{workflow_id}")
        engine.start("booked", pool=worker.pool_id, prompt=prompt, workflow_id=workflow_id, **files.params)
        events = await events_until_end(client)
    return workflow_id, engine.workflow(workflow_id), events


@pytest.mark.parametrize(
    ("prompt", "committed_by", "reasons"),
    [
        ("lives", 1, []),
        ("killed while it writes", 2, ["lost"]),
        ("killed before its commit", 2, ["lost"]),
        ("killed after its commit", 1, []),
        ("answer to its commit lost", 1, []),
        ("transaction ended by the database", 2, ["lost"]),
    ],
)
async def test_rows_of_an_atomic_stage_exist_once_wherever_it_ends(
    engine: Engine, shared_worker: CeleryWorker, files: Files, prompt: str, committed_by: int, reasons: list[str]
) -> None:
    workflow_id, stored, events = await end_of(engine, shared_worker, files, prompt)
    name = f"{workflow_id} {committed_by}"
    assert (stored["status"], rows(engine, workflow_id)) == ("completed", [name])
    assert stored["result"]["final_output"] == [name, [[name]]]
    assert [attempt[2] for attempt in stored["failed_attempts"]] == reasons
    assert files.journal() == [f"writes {attempt + 1}" for attempt in range(committed_by)]
    ends = [event for event in events if event["event"] == "workflow.stage_completed"]
    assert [end["data"]["stage_name"] for end in ends] == ["book", "after"]
    engine.assert_counters_match(shared_worker.pool_id)


async def test_failed_atomic_stage_leaves_no_rows_and_keeps_its_log(
    engine: Engine, shared_worker: CeleryWorker, files: Files
) -> None:
    workflow_id, stored, events = await end_of(engine, shared_worker, files, "fails")
    assert (stored["status"], rows(engine, workflow_id)) == ("failed", [])
    assert stored["error"] == "The stage book failed: ValueError: No seat"
    names = [event["event"].removeprefix("workflow.") for event in events]
    assert names[-4:] == ["stage_log", "stage_progress", "stage_failed", "failed"]


async def test_reports_of_an_atomic_stage_are_sent_before_its_end(
    engine: Engine, shared_worker: CeleryWorker, files: Files
) -> None:
    _, _, events = await end_of(engine, shared_worker, files, "reports")
    names = [event["event"].removeprefix("workflow.") for event in events]
    first = names.index("stage_started")
    assert names[first : first + 4] == ["stage_started", "stage_log", "stage_progress", "stage_completed"]
