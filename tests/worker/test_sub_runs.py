"""Runs with sub-runs, on real workers and schedulers that are killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.harness.client import connect
from tests.harness.engine import Engine
from tests.harness.engine_fixtures import Files
from tests.harness.waiting import eventually
from tests.worker.run_events import events_until_end

RUNS = """
from orchestration.models import Workflow
runs = Workflow.objects.filter(root_id=root).order_by("created_at", "pk")
result = [[run.pk, run.status] for run in runs]
"""


BUSY = """
from orchestration.models import Worker
result = Worker.objects.filter(pool_id=pool_id, status="busy").count()
"""


def sub_runs(engine: Engine, root: str) -> list[list[str]]:
    found: list[list[str]] = engine.execute(RUNS, root=root)
    return found


def statuses(engine: Engine, root: str) -> list[str]:
    return [status for _, status in sub_runs(engine, root)]


async def test_three_parents_in_a_pool_of_two_slots_do_not_block_each_other(
    engine: Engine, pool: str, files: Files
) -> None:
    engine.worker(pool_id=pool, concurrency=2)
    files.open_gate()
    for number in range(3):
        engine.start("fans", pool=pool, workflow_id=f"wf_{number}", count=4, child_pool=pool, **files.params)
    for number in range(3):
        await eventually(
            lambda number=number: engine.workflow(f"wf_{number}")["status"] == "completed",  # type: ignore[misc]
            what="the parent completes",
        )
        assert statuses(engine, f"wf_{number}") == ["completed"] * 4
    assert sorted(files.journal()) == sorted(["fan_out"] * 3 + [f"score {number}" for number in range(4)] * 3)
    engine.assert_counters_match(pool)


async def test_sub_run_whose_process_is_killed_ends_its_parent_once(engine: Engine, pool: str, files: Files) -> None:
    worker = engine.worker(pool_id=pool)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_tree")
        engine.start("fans", pool=pool, workflow_id="wf_tree", count=2, child_pool=pool, **files.params)
        await eventually(lambda: files.journal() == ["fan_out", "score 0"], what="the sub-run begins")
        (child,) = worker.children()
        child.kill()
        await eventually(lambda: len(files.journal()) == 3, what="the next sub-run begins")
        files.open_gate()
        events = await events_until_end(client)
    named = [
        (event["event"], event["data"].get("status"))
        for event in events
        if event["data"].get("stage_name") == "fan_out"
    ]
    assert [name for name, _ in named] == [
        "workflow.stage_started",
        "workflow.stage_status_changed",
        "workflow.stage_completed",
    ]
    assert named[1][1] == "waiting"
    assert sorted(files.journal()) == ["fan_out", "score 0", "score 0", "score 1"]
    assert engine.workflow("wf_tree")["status"] == "completed"
    engine.assert_counters_match(pool)


async def test_parent_whose_process_is_killed_finds_its_sub_runs(
    engine: Engine, pool: str, files: Files, tmp_path: Path
) -> None:
    children = f"{pool}_children"
    worker = engine.worker(pool_id=pool)
    files.open_gate()
    params: dict[str, Any] = {**files.params, "child_pool": children, "dies": str(tmp_path / "died")}
    engine.start("fans_and_dies", pool=pool, workflow_id="wf_dies", count=3, **params)
    await eventually(lambda: len(sub_runs(engine, "wf_dies")) == 3, what="the sub-runs are started")
    assert worker.is_alive()
    engine.worker(pool_id=children)
    await eventually(lambda: engine.workflow("wf_dies")["status"] == "completed", what="the end")
    assert len(sub_runs(engine, "wf_dies")) == 3
    assert files.journal().count("fan_out") == 2
    engine.assert_counters_match(pool)
    engine.assert_counters_match(children)


async def test_cancel_of_a_run_cancels_the_runs_below_it(engine: Engine, pool: str, files: Files) -> None:
    levels = 3
    engine.worker(pool_id=pool)
    engine.start("deep_wait", pool=pool, workflow_id="wf_deep", levels=levels, child_pool=pool, **files.params)
    await eventually(lambda: "score 1" in files.journal(), what="the lowest run begins")
    engine.execute("from orchestration import services; services.cancel_workflow(workflow_id='wf_deep')")
    await eventually(lambda: set(statuses(engine, "wf_deep")) == {"cancelled"}, what="all are cancelled")
    assert len(statuses(engine, "wf_deep")) == levels + 1
    await eventually(
        lambda: engine.execute(BUSY, pool_id=pool) == 0,
        what="the worker is free",
    )
    engine.assert_counters_match(pool)
