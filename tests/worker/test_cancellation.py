"""Runs and stages that are cancelled at every status, or killed when they exceed their time limit."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from orchestration.processes import is_alive
from tests.harness.client import Message, connect
from tests.harness.engine import CeleryWorker, Engine
from tests.harness.engine_fixtures import Files
from tests.harness.services import ServiceCallError
from tests.harness.waiting import eventually
from tests.worker.run_events import events_until, events_until_end, is_of_workflow, outline, untimed

WITHIN_A_SECOND = 1.0

CANCEL = "from orchestration.sdk import Run\nRun(workflow_id).cancel(reason='No longer needed')"


def cancelled(workflow_id: str, name: str) -> tuple[str, dict[str, str]]:
    return "workflow.cancelled", {"workflow_id": workflow_id, "name": name, "reason": "No longer needed"}


async def test_cancelled_queued_stage_never_runs(
    engine: Engine, shared_pool: str, files: Files, tmp_path: Path
) -> None:
    (tmp_path / "busy").mkdir()
    busy = Files(tmp_path / "busy")
    engine.start("gated", pool=shared_pool, **busy.params)
    await eventually(lambda: len(busy.journal()) == 1, what="the only worker is busy")
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_queued")
        engine.start("gated", pool=shared_pool, workflow_id="wf_queued", **files.params)
        engine.execute(CANCEL, workflow_id="wf_queued")
        assert untimed((await events_until_end(client))[-1]) == cancelled("wf_queued", "gated")
        busy.open_gate()
        marker = engine.start("three_empty_stages", pool=shared_pool)
        await eventually(lambda: engine.workflow(marker)["status"] == "completed", what="the run after it")
        await client.expect_nothing(0.2)
    assert files.journal() == []
    stages = engine.workflow("wf_queued")["stages"]
    assert {stage["status"] for stage in stages.values()} == {"cancelled"}
    engine.assert_counters_match(shared_pool)


async def test_running_stage_sees_its_cancellation_within_a_second(
    engine: Engine, patient_worker: CeleryWorker, files: Files
) -> None:
    (child,) = patient_worker.children()
    durations = []
    async with connect(engine.server) as client:
        # A busy machine delays single runs, so the fastest of three counts.
        for number in range(3):
            workflow_id = f"wf_cancellable_{number}"
            await client.subscribe(f"workflow:{workflow_id}")
            engine.start("cancellable", pool=patient_worker.pool_id, workflow_id=workflow_id, **files.params)
            await eventually(lambda: len(files.journal()) % 2 == 1, what="the stage begins")
            began = time.monotonic()
            engine.execute(CANCEL, workflow_id=workflow_id)
            await eventually(lambda: len(files.journal()) % 2 == 0, what="the stage ends")
            durations.append(time.monotonic() - began)
            assert untimed((await events_until_end(client))[-1]) == cancelled(workflow_id, "cancellable")
        await eventually(lambda: engine.workers(patient_worker.pool_id) == ["idle"], what="the worker is free")
        await client.expect_nothing(0.2)
    assert min(durations) < WITHIN_A_SECOND
    assert [process.pid for process in patient_worker.children()] == [child.pid], "the process was killed"
    engine.assert_counters_match(patient_worker.pool_id)


async def test_running_stage_that_ignores_its_cancellation_is_killed_and_its_worker_continues(
    engine: Engine, shared_worker: CeleryWorker, files: Files
) -> None:
    pool = shared_worker.pool_id
    (child,) = shared_worker.children()
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_uncancellable")
        engine.start("uncancellable", pool=pool, workflow_id="wf_uncancellable", **files.params)
        await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
        engine.execute(CANCEL, workflow_id="wf_uncancellable")
        child.wait(timeout=60)
        assert untimed((await events_until_end(client))[-1]) == cancelled("wf_uncancellable", "uncancellable")
        marker = engine.start("three_empty_stages", pool=pool)
        await eventually(lambda: engine.workflow(marker)["status"] == "completed", what="the run after it")
        await client.expect_nothing(0.2)
    assert files.journal() == ["begins"]
    engine.assert_counters_match(pool)


async def test_finished_run_cannot_be_cancelled(engine: Engine, shared_pool: str, files: Files) -> None:
    late = engine.start("overdue", pool=shared_pool, **files.params)
    await eventually(lambda: engine.workflow(late)["status"] == "timeout", what="the timeout")
    cancelled_before = engine.start("gated", pool=shared_pool, **files.params)
    engine.execute(CANCEL, workflow_id=cancelled_before)
    runs = {
        late: "timeout",
        cancelled_before: "cancelled",
        engine.start("failing", pool=shared_pool, prompt="no message"): "failed",
        engine.start("three_empty_stages", pool=shared_pool): "completed",
    }
    for run, status in runs.items():
        await eventually(lambda run=run, status=status: engine.workflow(run)["status"] == status, what=status)  # type: ignore[misc]
        before = engine.workflow(run)
        with pytest.raises(ServiceCallError, match=f"IllegalTransition: Workflow {run} has status {status}"):
            engine.execute(CANCEL, workflow_id=run)
        assert engine.workflow(run) == before
    engine.assert_counters_match(shared_pool)


async def test_cancelling_a_run_cancels_its_unfinished_stages(engine: Engine, shared_pool: str, files: Files) -> None:
    engine.start("gated", pool=shared_pool, workflow_id="wf_unfinished", **files.params)
    await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
    engine.execute(CANCEL, workflow_id="wf_unfinished")
    stages = engine.workflow("wf_unfinished")["stages"]
    assert {name: stage["status"] for name, stage in stages.items()} == {
        "first": "completed",
        "gate": "cancelled",
        "third": "cancelled",
    }
    await eventually(lambda: engine.workers(shared_pool) in (["idle"], ["error"]), what="the worker is free")
    assert len(files.journal()) == 1
    engine.assert_counters_match(shared_pool)


async def test_stage_waiting_for_its_retry_can_be_cancelled(engine: Engine, shared_pool: str) -> None:
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_waiting")
        engine.start("waiting_to_retry", pool=shared_pool, workflow_id="wf_waiting", succeeds_at=3)
        await events_until(client, "workflow.stage_retrying")
        engine.execute(CANCEL, workflow_id="wf_waiting")
        assert untimed((await events_until_end(client))[-1]) == cancelled("wf_waiting", "waiting_to_retry")
        await client.expect_nothing(0.2)
    assert engine.workflow("wf_waiting")["stages"]["waits"]["retry_at"] is None
    engine.assert_counters_match(shared_pool)


async def test_overdue_stage_is_killed_with_all_its_descendants(engine: Engine, shared_pool: str, files: Files) -> None:
    async with connect(engine.server) as client, connect(engine.server) as worker_client:
        await client.subscribe("workflow:wf_overdue_stage")
        await worker_client.subscribe(f"worker:{shared_pool}-test-1")
        engine.start("overdue_with_children", pool=shared_pool, workflow_id="wf_overdue_stage", **files.params)
        events = await events_until_end(client)
        statuses = [event["data"]["status"] for event in await worker_client.events(4)]
    error = "The stage took longer than 4 s"
    assert outline(events) == [
        "workflow.created",
        "workflow.started",
        "workflow.stages_queued forks",
        "workflow.stage_started forks",
        "workflow.stage_retrying forks 1 timed_out",
        "workflow.stages_queued forks",
        "workflow.stage_started forks",
        "workflow.stage_failed forks",
        "workflow.failed",
    ]
    assert untimed(events[-1])[1]["error"] == f"The stage forks failed: {error}"
    assert statuses == ["busy", "error", "busy", "error"]
    assert engine.workflow("wf_overdue_stage")["failed_attempts"] == [
        ["forks", number, "timed_out", error] for number in (1, 2)
    ]
    started = [int(line) for line in files.journal()]
    assert len(started) == 6, "two attempts with three processes each"
    await eventually(lambda: not any(map(is_alive, started)), what="the end of all of them")
    engine.assert_counters_match(shared_pool)


RUNS_PER_TRANSACTION = 100
RUNS_WITHIN_SECONDS = 250

START_MANY = """
from django.db import transaction
from orchestration.sdk import find_definition
definition = find_definition("one_empty_stage")
result = []
for first in range(0, count, batch_size):
    with transaction.atomic():
        result += [definition.start("", pool=pool).workflow_id for number in range(first, first + batch_size)]
"""

A_RUN = [
    "workflow.created",
    "workflow.started",
    "workflow.stages_queued first",
    "workflow.stage_started first",
    "workflow.stage_completed first",
    "workflow.completed",
]


@pytest.mark.parametrize("runs", [100, pytest.param(1000, marks=pytest.mark.chaos)])
async def test_concurrent_runs_complete_once_with_at_most_ten_pool_events_a_second(
    engine: Engine, pool: str, runs: int
) -> None:
    engine.worker(pool_id=pool, concurrency=2)
    async with connect(engine.server) as client:
        await client.subscribe("global")
        began = time.monotonic()
        starting = asyncio.create_task(
            asyncio.to_thread(engine.execute, START_MANY, pool=pool, count=runs, batch_size=RUNS_PER_TRANSACTION)
        )
        run_events: dict[str, list[Message]] = defaultdict(list)
        pool_events: list[Message] = []
        last = {"active_workers": 0, "idle_workers": 2, "queue_size": 0, "tasks_running": 0, "tasks_completed": runs}
        async with asyncio.timeout(RUNS_WITHIN_SECONDS):
            while not pool_events or not last.items() <= pool_events[-1]["data"]["status"].items():
                event = await client.event(within_seconds=RUNS_WITHIN_SECONDS)
                if event["data"].get("pool_id") == pool and event["event"] == "pool.status_changed":
                    pool_events.append(event)
                if is_of_workflow(event):
                    run_events[event["data"]["workflow_id"]].append(event)
        took_seconds = time.monotonic() - began
        started = await starting
        await client.expect_nothing(0.2)
    outlines = Counter(tuple(outline(run_events[workflow_id])) for workflow_id in started)
    assert outlines == {tuple(A_RUN): runs}
    assert len(pool_events) <= took_seconds * 10 + 2
    engine.assert_counters_match(pool)


async def test_drain_pool_moves_waiting_workflows_and_reopen_pool_accepts_new_ones(
    engine: Engine, pool: str, shared_pool: str, files: Files
) -> None:
    engine.worker(pool_id=pool)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_moved")
        engine.start("gated", pool=pool, workflow_id="wf_stays", **files.params)
        await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
        engine.start("three_empty_stages", pool=pool, workflow_id="wf_moved")
        done = engine.server.manage("drain_pool", pool, "--move-to", shared_pool)
        assert (done.returncode, done.stdout) == (
            0,
            f"Moved 2 workflows to {shared_pool}\nPool {pool} is draining: it accepts no new workflows\n",
        )
        events = await events_until_end(client)
        assert {event["data"]["worker_id"] for event in events if "worker_id" in event["data"]} == {
            f"{shared_pool}-test-1"
        }
        files.open_gate()
        await eventually(lambda: engine.workflow("wf_stays")["status"] == "completed", what="the other run")
    with pytest.raises(ServiceCallError, match=f"PoolNotAccepting: Pool {pool} is draining"):
        engine.start("three_empty_stages", pool=pool)
    reopened = engine.server.manage("reopen_pool", pool)
    assert (reopened.returncode, reopened.stdout) == (0, f"Pool {pool} accepts new workflows again\n")
    again = engine.start("three_empty_stages", pool=pool)
    await eventually(lambda: engine.workflow(again)["status"] == "completed", what="a run in the reopened pool")
    stages = engine.workflow("wf_stays")["stages"]
    assert [stages[name]["pool_id"] for name in ("first", "gate", "third")] == [pool, pool, shared_pool]
    for name in (pool, shared_pool):
        engine.assert_counters_match(name)
