"""Wide runs on a real worker, which dispatches the stages of a run while it claims others."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tests.harness.client import connect
from tests.harness.engine import Engine
from tests.worker.run_events import events_until_end

WIDTH = 30
WIDTH_IN_FRONT = 400


async def test_run_completes_when_its_worker_is_killed_before_it_dispatches(
    engine: Engine, shared_pool: str, tmp_path: Path
) -> None:
    journal = tmp_path / "journal"
    params: dict[str, Any] = {"width": WIDTH, "part": "journaling", "journal": str(journal), "kill_at": "part_5"}
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_wide")
        engine.start("wide", pool=shared_pool, workflow_id="wf_wide", **params)
        events = await events_until_end(client)
    assert events[-1]["event"] == "workflow.completed"
    # The process died after it had claimed a part and before it ran it: no part ran twice.
    assert Counter(journal.read_text().splitlines()) == Counter(f"part_{number}" for number in range(WIDTH))
    (failed,) = engine.workflow("wf_wide")["failed_attempts"]
    assert list(failed[2:]) == ["lost", "The worker process died"]
    engine.assert_counters_match(shared_pool)


STARTED_WHILE_QUEUED = """
from orchestration.models import Stage
short = Stage.objects.get(workflow_id=before)
started = Stage.objects.filter(workflow_id=other, started_at__gte=short.queued_at, started_at__lte=short.started_at)
result = started.count()
"""


async def test_short_run_starts_soon_behind_a_wide_one(engine: Engine, shared_pool: str) -> None:
    async with connect(engine.server) as client, connect(engine.server) as short_client:
        await client.subscribe("workflow:wf_in_front")
        await short_client.subscribe("workflow:wf_short")
        engine.start("wide", pool=shared_pool, workflow_id="wf_in_front", width=WIDTH_IN_FRONT)
        while (await client.event())["data"].get("stage_name") != "part_0":
            pass
        engine.start("one_empty_stage", pool=shared_pool, workflow_id="wf_short")
        events = await events_until_end(short_client)
    assert events[-1]["event"] == "workflow.completed"
    # The broker held a window of the wide run when the short one was queued; the stages behind it start later.
    started_between = engine.execute(STARTED_WHILE_QUEUED, before="wf_short", other="wf_in_front")
    assert started_between < WIDTH_IN_FRONT / 2
