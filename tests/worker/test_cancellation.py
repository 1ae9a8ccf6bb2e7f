"""Runs and stages that are ended from outside: cancelled at every status, killed when they take too long."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterator

import psutil
import pytest

from tests.harness.client import Message, connect
from tests.harness.engine import Engine, engine_of
from tests.harness.engine_fixtures import JOBS, Files
from tests.harness.fixtures import StartServer
from tests.harness.services import ServiceCallError
from tests.worker.run_events import eventually, in_short, told, until, until_the_end

WITHIN_A_SECOND = 1.0

CANCEL = "from orchestration.sdk import Run\nRun(workflow_id).cancel(reason='No longer needed')"


def cancelled(workflow_id: str) -> tuple[str, dict[str, str]]:
    return "workflow.cancelled", {"workflow_id": workflow_id, "reason": "No longer needed"}


async def test_a_queued_stage_that_is_cancelled_is_never_run(engine: Engine, pool: str, files: Files) -> None:
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_queued")
        engine.start("gated", pool=pool, workflow_id="wf_queued", **files.params)
        engine.execute(CANCEL, workflow_id="wf_queued")
        assert told((await until_the_end(client))[-1]) == cancelled("wf_queued")
        engine.worker(pool_id=pool)
        marker = engine.start("three_empty_stages", pool=pool)
        await eventually(lambda: engine.workflow(marker)["status"] == "completed", what="the run after it")
        await client.expect_nothing(0.2)
    assert files.journal() == []
    stages = engine.workflow("wf_queued")["stages"]
    assert {stage["status"] for stage in stages.values()} == {"cancelled"}
    engine.assert_adds_up(pool)


async def test_a_running_stage_is_told_within_a_second_that_it_is_cancelled(
    engine: Engine, pool: str, files: Files
) -> None:
    worker = engine.worker(pool_id=pool, MAHAVISHNU_CANCEL_GRACE_SECONDS="30")
    (child,) = worker.children()
    durations = []
    async with connect(engine.server) as client:
        # A machine that is busy holds up anything now and then. What is slow is so every time.
        for number in range(3):
            workflow_id = f"wf_polite_{number}"
            await client.subscribe(f"workflow:{workflow_id}")
            engine.start("polite", pool=pool, workflow_id=workflow_id, **files.params)
            await eventually(lambda: len(files.journal()) % 2 == 1, what="the stage begins")
            began = time.monotonic()
            engine.execute(CANCEL, workflow_id=workflow_id)
            await eventually(lambda: len(files.journal()) % 2 == 0, what="the stage hears of it")
            durations.append(time.monotonic() - began)
            assert told((await until_the_end(client))[-1]) == cancelled(workflow_id)
        await eventually(lambda: engine.workers(pool) == ["idle"], what="the worker is free")
        await client.expect_nothing(0.2)
    assert min(durations) < WITHIN_A_SECOND
    assert [process.pid for process in worker.children()] == [child.pid], "nobody had to be killed"
    engine.assert_adds_up(pool)


async def test_a_running_stage_that_does_not_listen_is_killed_and_its_worker_works_on(
    engine: Engine, pool: str, files: Files
) -> None:
    worker = engine.worker(pool_id=pool)
    (child,) = worker.children()
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_rude")
        engine.start("rude", pool=pool, workflow_id="wf_rude", **files.params)
        await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
        engine.execute(CANCEL, workflow_id="wf_rude")
        child.wait(timeout=60)
        assert told((await until_the_end(client))[-1]) == cancelled("wf_rude")
        marker = engine.start("three_empty_stages", pool=pool)
        await eventually(lambda: engine.workflow(marker)["status"] == "completed", what="the run after it")
        await client.expect_nothing(0.2)
    assert files.journal() == ["begins"]
    engine.assert_adds_up(pool)


async def test_a_run_that_has_ended_cannot_be_cancelled_however_it_ended(
    engine: Engine, pool: str, files: Files
) -> None:
    engine.worker(pool_id=pool)
    late = engine.start("late", pool=pool, **files.params)
    await eventually(lambda: engine.workflow(late)["status"] == "timeout", what="the run that takes too long")
    cancelled_before = engine.start("gated", pool=pool, **files.params)
    engine.execute(CANCEL, workflow_id=cancelled_before)
    runs = {
        late: "timeout",
        cancelled_before: "cancelled",
        engine.start("failing", pool=pool, prompt="speechless"): "failed",
        engine.start("three_empty_stages", pool=pool): "completed",
    }
    for run, status in runs.items():
        await eventually(lambda run=run, status=status: engine.workflow(run)["status"] == status, what=status)  # type: ignore[misc]
        before = engine.workflow(run)
        with pytest.raises(ServiceCallError, match=f"IllegalTransition: The workflow {run} is {status}"):
            engine.execute(CANCEL, workflow_id=run)
        assert engine.workflow(run) == before
    engine.assert_adds_up(pool)


async def test_with_a_run_everything_of_it_is_cancelled_that_has_not_ended(
    engine: Engine, pool: str, files: Files
) -> None:
    engine.worker(pool_id=pool)
    engine.start("gated", pool=pool, workflow_id=f"wf_{pool}", **files.params)
    await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
    engine.execute(CANCEL, workflow_id=f"wf_{pool}")
    stages = engine.workflow(f"wf_{pool}")["stages"]
    assert {name: stage["status"] for name, stage in stages.items()} == {
        "first": "completed",
        "gate": "cancelled",
        "third": "cancelled",
    }
    await eventually(lambda: engine.workers(pool) in (["idle"], ["error"]), what="the worker is free")
    assert len(files.journal()) == 1
    engine.assert_adds_up(pool)


async def test_a_stage_that_waits_for_its_next_attempt_can_be_cancelled(engine: Engine, pool: str) -> None:
    engine.worker(pool_id=pool)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_patient")
        engine.start("patient", pool=pool, workflow_id="wf_patient", succeeds_at=3)
        await until(client, "workflow.stage_retrying")
        engine.execute(CANCEL, workflow_id="wf_patient")
        assert told((await until_the_end(client))[-1]) == cancelled("wf_patient")
        await client.expect_nothing(0.2)
    assert engine.workflow("wf_patient")["stages"]["waits"]["retry_at"] is None
    engine.assert_adds_up(pool)


async def test_a_stage_that_takes_too_long_is_killed_with_all_it_started(
    engine: Engine, pool: str, files: Files
) -> None:
    engine.worker(pool_id=pool)
    async with connect(engine.server) as client, connect(engine.server) as worker_client:
        await client.subscribe("workflow:wf_slow")
        await worker_client.subscribe(f"worker:{pool}-test-1")
        engine.start("slow", pool=pool, workflow_id="wf_slow", **files.params)
        events = await until_the_end(client)
        statuses = [event["data"]["status"] for event in await worker_client.events(4)]
    error = "The stage took longer than 4 s"
    assert in_short(events)[2:] == [
        "workflow.stage_started forks",
        "workflow.stage_retrying forks 1 timed_out",
        "workflow.stage_started forks",
        "workflow.stage_failed forks",
        "workflow.failed",
    ]
    assert told(events[-1])[1]["error"] == f"The stage forks failed: {error}"
    assert statuses == ["busy", "error", "busy", "error"]
    assert engine.workflow("wf_slow")["failed_attempts"] == [["forks", number, "timed_out", error] for number in (1, 2)]
    started = [int(line) for line in files.journal()]
    assert len(started) == 6, "two children and itself, twice"
    await eventually(lambda: not any(is_running(pid) for pid in started), what="the end of all of them")
    engine.assert_adds_up(pool)


def is_running(pid: int) -> bool:
    return psutil.pid_exists(pid) and bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


RUNS = 1000
STARTED_AT_ONCE = 100
RUNS_WITHIN_SECONDS = 250

START_MANY = """
from django.db import transaction
from orchestration.sdk import find_definition
definition = find_definition("one_empty_stage")
result = []
for first in range(0, count, at_once):
    with transaction.atomic():
        result += [definition.start("", pool=pool).workflow_id for number in range(first, first + at_once)]
"""

A_RUN = [
    "workflow.created",
    "workflow.started",
    "workflow.stage_started first",
    "workflow.stage_completed first",
    "workflow.completed",
]


@pytest.fixture
def patient(start_server: StartServer) -> Iterator[Engine]:
    """An engine that is used to being busy."""
    for engine in engine_of(start_server(environment=JOBS)):
        engine.scheduler()
        yield engine


async def test_a_thousand_runs_at_once_all_complete_once_and_their_pool_is_told_ten_times_a_second_at_most(
    patient: Engine, pool: str
) -> None:
    engine = patient
    engine.worker(pool_id=pool, concurrency=2)
    async with connect(engine.server) as client:
        await client.subscribe("global")
        began = time.monotonic()
        starting = asyncio.create_task(
            asyncio.to_thread(engine.execute, START_MANY, pool=pool, count=RUNS, at_once=STARTED_AT_ONCE)
        )
        of_runs: dict[str, list[Message]] = defaultdict(list)
        of_pool: list[Message] = []
        last = {"active_workers": 0, "idle_workers": 2, "queue_size": 0, "tasks_running": 0, "tasks_completed": RUNS}
        async with asyncio.timeout(RUNS_WITHIN_SECONDS):
            while not of_pool or not last.items() <= of_pool[-1]["data"]["status"].items():
                event = await client.event(within_seconds=RUNS_WITHIN_SECONDS)
                if event["data"].get("pool_id") == pool and event["event"] == "pool.status_changed":
                    of_pool.append(event)
                if "workflow_id" in event["data"]:
                    of_runs[event["data"]["workflow_id"]].append(event)
        took_seconds = time.monotonic() - began
        started = await starting
        await client.expect_nothing(0.2)
    told_of = Counter(tuple(in_short(of_runs[workflow_id])) for workflow_id in started)
    assert told_of == {tuple(A_RUN): RUNS}
    assert len(of_pool) <= took_seconds * 10 + 2
    engine.assert_adds_up(pool)


async def test_what_waits_in_a_pool_that_is_drained_is_done_where_it_is_told_until_it_is_reopened(
    engine: Engine, pool: str, files: Files
) -> None:
    other = f"{pool}_other"
    for name in (pool, other):
        engine.worker(pool_id=name)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_moved")
        engine.start("gated", pool=pool, workflow_id="wf_stays", **files.params)
        await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
        engine.start("three_empty_stages", pool=pool, workflow_id="wf_moved")
        done = engine.server.manage("drain_pool", pool, "--move-to", other)
        assert (done.returncode, done.stdout) == (
            0,
            f"Moved 2 workflows to {other}\nThe pool {pool} takes on nothing new\n",
        )
        events = await until_the_end(client)
        assert {event["data"].get("worker_id", f"{other}-test-1") for event in events} == {f"{other}-test-1"}
        files.open_gate()
        await eventually(lambda: engine.workflow("wf_stays")["status"] == "completed", what="the run that stayed")
    with pytest.raises(ServiceCallError, match=f"PoolNotAccepting: The pool {pool} is draining"):
        engine.start("three_empty_stages", pool=pool)
    reopened = engine.server.manage("reopen_pool", pool)
    assert (reopened.returncode, reopened.stdout) == (0, f"The pool {pool} takes on new workflows again\n")
    again = engine.start("three_empty_stages", pool=pool)
    await eventually(
        lambda: engine.workflow(again)["status"] == "completed", what="a run in the pool that is open again"
    )
    stages = engine.workflow("wf_stays")["stages"]
    assert [stages[name]["pool_id"] for name in ("first", "gate", "third")] == [pool, pool, other]
    for name in (pool, other):
        engine.assert_adds_up(name)
