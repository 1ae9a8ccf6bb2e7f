"""Runs with stages in two pools, on real workers."""

from __future__ import annotations

from tests.harness.client import connect
from tests.harness.engine import Engine
from tests.harness.engine_fixtures import Files
from tests.harness.waiting import eventually
from tests.worker.run_events import events_until_end


async def test_stages_run_on_the_workers_of_their_pools(engine: Engine, pool: str, files: Files) -> None:
    gpu = f"{pool}_gpu"
    engine.worker(pool_id=pool)
    worker = engine.worker(pool_id=gpu)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_pools")
        engine.start("trains", pool=pool, workflow_id="wf_pools", gpu=gpu, **files.params)
        await eventually(lambda: files.journal() == ["prepare", "train"], what="the training begins")
        (child,) = worker.children()
        child.kill()
        await eventually(lambda: len(files.journal()) == 3, what="the training begins again")
        files.open_gate()
        events = await events_until_end(client)
    assert files.journal() == ["prepare", "train", "train"]
    workers = [event["data"]["worker_id"] for event in events if event["event"] == "workflow.stage_started"]
    assert [gpu in worker_id for worker_id in workers] == [False, True, True, True, False]
    assert engine.workflow("wf_pools")["status"] == "completed"
    engine.assert_counters_match(pool)
    engine.assert_counters_match(gpu)
