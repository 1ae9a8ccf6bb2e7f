"""Workers that are stopped, drained or recycled, or that lack code: no run fails, and no stage runs twice for it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from orchestration.processes import kill_tree, process_tree
from tests.connection.resume_requests import resume
from tests.harness.client import connect
from tests.harness.engine import SUPERVISOR, Engine
from tests.harness.engine_fixtures import Files
from tests.harness.matchers import A_TIME
from tests.harness.processes import command_of
from tests.harness.programs import PROJECT_DIR
from tests.harness.waiting import eventually, wait_until
from tests.worker.run_events import events_until, events_until_end, outline, untimed

PATIENT: dict[str, Any] = {"MAHAVISHNU_SHUTDOWN_GRACE_SECONDS": "60"}


async def completes(engine: Engine, workflow_id: str) -> dict[str, Any]:
    await eventually(lambda: engine.workflow(workflow_id)["status"] != "running", what=f"the end of {workflow_id}")
    stored = engine.workflow(workflow_id)
    assert stored["status"] == "completed", stored
    return stored


async def test_sigterm_to_all_processes_of_a_worker_at_once_loses_nothing(
    engine: Engine, pool: str, files: Files
) -> None:
    worker = engine.worker(pool_id=pool, concurrency=3)
    engine.start("gated", pool=pool, workflow_id="wf_term_python", **files.params)
    engine.start("running_program", pool=pool, workflow_id="wf_term_program", **files.params)
    engine.start("uncancellable", pool=pool, workflow_id="wf_term_deaf", journal=files.params["journal"])
    await eventually(lambda: len(files.journal()) == 3, what="the stages begin")
    # As systemd does by default.
    for process in process_tree(worker.pid):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGTERM)
    await eventually(lambda: not worker.is_alive(), what="the end of the worker")
    await eventually(lambda: engine.workers(pool) == ["offline"] * 3, what="the workers are offline")
    files.open_gate()
    engine.begin_worker(pool_id=pool, concurrency=3)
    for workflow_id in ("wf_term_python", "wf_term_program"):
        stored = await completes(engine, workflow_id)
        assert [attempt[2] for attempt in stored["failed_attempts"]] == ["released"]
    stored = engine.workflow("wf_term_deaf")
    assert [attempt[1:] for attempt in stored["failed_attempts"]] == [[1, "released", "The worker was stopped"]]
    engine.finish_runs(pool)
    engine.assert_counters_match(pool)


async def test_long_stage_hands_over_at_each_stop_and_continues_at_its_checkpoint(
    engine: Engine, pool: str, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint"
    worker = engine.worker(pool_id=pool, **PATIENT)
    # It cannot reach this number before it is stopped.
    until = 1_000_000
    params: dict[str, Any] = {"checkpoint": str(checkpoint), "until": until, "pause_seconds": 0.02}
    counts = [0]
    checkpoint.write_text("0")
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_hand_over")
        engine.start("counting", pool=pool, workflow_id="wf_hand_over", **params)
        for number in (1, 2):
            await events_until(client, "workflow.stage_started")
            assert await asyncio.to_thread(worker.terminate) == 0
            released, queued = await client.events(2)
            assert untimed(released)[1]["reason"] == "worker_stopped"
            assert outline([released, queued]) == [
                f"workflow.stage_released checkpoint {number}",
                "workflow.stages_queued checkpoint",
            ]
            counts.append(int(checkpoint.read_text()))
            if number == 2:
                checkpoint.write_text(str(until - 5))
            worker = engine.worker(pool_id=pool, **PATIENT)
        events = await events_until_end(client)
    assert outline(events) == [
        "workflow.stage_started checkpoint",
        "workflow.stage_completed checkpoint",
        "workflow.completed",
    ]
    stored = engine.workflow("wf_hand_over")
    assert (stored["stages"]["checkpoint"]["attempt"], stored["stages"]["checkpoint"]["lost_attempts"]) == (3, 0)
    assert counts == sorted(counts)
    assert checkpoint.read_text() == str(until)


async def test_drained_worker_finishes_its_stage_and_another_takes_the_next(
    engine: Engine, pool: str, files: Files
) -> None:
    drained = engine.worker(pool_id=pool)
    engine.start("gated", pool=pool, workflow_id="wf_drained", **files.params)
    await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
    async with connect(engine.server) as client:
        await client.subscribe(f"worker:{pool}-test-1")
        command = asyncio.create_task(
            asyncio.to_thread(engine.server.manage, "drain_worker", f"{pool}-test-1", "--wait")
        )
        assert untimed(await client.event())[1] == {"worker_id": f"{pool}-test-1", "pool_id": pool}
        engine.worker(pool_id=pool)
        other = engine.start("one_empty_stage", pool=pool)
        stored = await completes(engine, other)
        assert stored["stages"]["first"]["worker_id"] == f"{pool}-test-2"
        assert not command.done()
        files.open_gate()
        await completes(engine, "wf_drained")
        done = await command
    assert (done.returncode, done.stdout.splitlines()) == (
        0,
        [f"Draining: {pool}-test-1", f"Drained: {pool}-test-1. Stop or restart the process now."],
    )
    assert drained.is_alive()
    assert engine.workers(pool) == ["offline", "idle"]
    assert files.journal() == ["begins 1 wf_drained/gate", "ends 1"]
    for _ in range(3):
        await completes(engine, engine.start("one_empty_stage", pool=pool))
    assert await asyncio.to_thread(drained.terminate) == 0
    again = engine.server.manage("drain_worker", f"{pool}-test-1")
    assert (again.returncode, again.stderr.strip()) == (
        1,
        f"CommandError: Worker {pool}-test-1 is offline; only an online worker can be drained.",
    )
    engine.assert_counters_match(pool)


@pytest.mark.parametrize(
    "options", [("--max-tasks-per-child", "1"), ("--max-memory-per-child", "1"), ("--autoscale", "3,1")], ids=str
)
async def test_recycled_processes_run_each_stage_once(
    engine: Engine, pool: str, files: Files, options: tuple[str, str]
) -> None:
    engine.worker(pool_id=pool, options=options)
    journal = files.params["journal"]
    runs = [engine.start("short_stages", pool=pool, seconds=0.05, journal=journal) for _ in range(3)]
    for run in runs:
        assert (await completes(engine, run))["failed_attempts"] == []
    keys, pids = zip(*(line.split() for line in files.journal()), strict=True)
    assert sorted(keys) == sorted(f"{run}/short" for run in runs)
    if options[0] != "--autoscale":
        assert len(set(pids)) == len(runs)
    engine.assert_counters_match(pool)


def test_worker_that_restarts_itself_gives_its_stage_back_and_has_one_supervisor(
    engine: Engine, pool: str, files: Files, tmp_path: Path
) -> None:
    # Celery repeats its command at SIGHUP, which works for the script only, not for `python -m celery`.
    script = Path(sys.executable).with_name("celery")
    options = ("--app", "mahavishnu_site", "--quiet", "worker", "--queues", pool, "--hostname", "celery@test")
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, script, *options, "--concurrency", "1"],
            cwd=PROJECT_DIR,
            env=engine.server.environment,
            stdout=log,
            stderr=log,
        )
    worker = psutil.Process(process.pid)

    def wait(condition: Callable[[], bool], what: str) -> None:
        wait_until(condition, timeout_seconds=60, what=what)

    def supervisors() -> set[psutil.Process]:
        return {child for child in worker.children() if SUPERVISOR in (command_of(child) or "")}

    try:
        wait(lambda: engine.workers(pool) == ["idle"], "the worker")
        for is_busy in (False, True):
            before = supervisors()
            assert len(before) == 1
            if is_busy:
                engine.start("gated", pool=pool, workflow_id="wf_restarted", **files.params)
                wait(lambda: len(files.journal()) == 1, "the stage begins")
            process.send_signal(signal.SIGHUP)
            wait(lambda before=before: len(supervisors() - before) == 1, "another supervisor")  # type: ignore[misc]
            wait(lambda: len(supervisors()) == 1, "the end of the first supervisor")
            if is_busy:
                files.open_gate()
            run = engine.start("one_empty_stage", pool=pool)
            wait(lambda run=run: engine.workflow(run)["status"] == "completed", "the end of the run")  # type: ignore[misc]
        wait(lambda: engine.workflow("wf_restarted")["status"] == "completed", "the end of the restarted stage")
        failed = engine.workflow("wf_restarted")["failed_attempts"]
        assert [attempt[1:] for attempt in failed] == [[1, "released", "The worker was stopped"]]
        process.terminate()
        assert process.wait(60) == 0
        wait(lambda: engine.workers(pool) == ["offline"], "the worker is offline")
    finally:
        kill_tree(process.pid)
        process.wait()


START_PLAN = """
from orchestration import services
from orchestration.plan import Plan, StagePlan
plan = Plan(name="late", adapter="python", stages=(StagePlan(name="late", step=0, call=call),))
services.start_run(plan, prompt="", params={}, pool_id=pool, workflow_id=workflow_id)
"""


async def test_stage_whose_code_is_broken_waits_for_a_worker_that_can_import_it(
    engine: Engine, pool: str, tmp_path: Path
) -> None:
    call = "late_release:work"
    needs = f"{call} (ValueError: half deployed)"
    broken, complete = tmp_path / "broken", tmp_path / "complete"
    for folder, code in ((broken, 'raise ValueError("half deployed")\n'), (complete, "")):
        folder.mkdir()
        (folder / "late_release.py").write_text(f"{code}def work(ctx, inputs):\n    return ctx.attempt\n")
    worker = engine.worker(pool_id=pool, PYTHONPATH=str(broken))
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_late_code")
        engine.execute(START_PLAN, call=call, pool=pool, workflow_id="wf_late_code")
        events = await events_until(client, "workflow.held")
        assert untimed(events[-1])[1] == {
            "workflow_id": "wf_late_code",
            "name": "late",
            "reason": "no_worker_with",
            "pool_id": pool,
            "needs": needs,
        }
        hold = await held(engine, "wf_late_code")
        assert hold == {"reason": "no_worker_with", "needs": needs, "since": A_TIME}
        assert f"This worker lacks {needs}; stages that need it wait for another worker" in worker.log_text()
        # A worker that is offered what it cannot run still runs what it can.
        await completes(engine, engine.start("three_empty_stages", pool=pool))
        engine.worker(pool_id=pool, PYTHONPATH=str(complete))
        events = await events_until_end(client)
    assert outline(events) == ["workflow.stage_started late", "workflow.stage_completed late", "workflow.completed"]
    stored = engine.workflow("wf_late_code")
    assert (stored["result"]["final_output"], stored["failed_attempts"]) == (1, [])
    engine.assert_counters_match(pool)


async def held(engine: Engine, workflow_id: str) -> dict[str, str] | None:
    """Return why a run is held, as its snapshot says."""
    async with connect(engine.server) as client:
        data = await resume(client, f"workflow:{workflow_id}", snapshot=True)
    found: dict[str, str] | None = data["snapshot"]["held"]
    return found


async def test_run_in_a_pool_without_workers_is_held_until_one_joins(engine: Engine, pool: str) -> None:
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_alone")
        engine.start("one_empty_stage", pool=pool, workflow_id="wf_alone")
        events = await events_until(client, "workflow.held")
        assert untimed(events[-1])[1] == {
            "workflow_id": "wf_alone",
            "name": "one_empty_stage",
            "reason": "no_worker",
            "pool_id": pool,
            "needs": "",
        }
        engine.worker(pool_id=pool)
        events = await events_until_end(client)
    about = {"workflow_id": "wf_alone", "name": "one_empty_stage"}
    assert untimed(events[0]) == ("workflow.hold_ended", {**about, "pool_id": pool})
    assert outline(events)[0] == "workflow.stage_started first"
    assert await held(engine, "wf_alone") is None


async def test_worker_with_a_broken_module_does_not_start_and_names_it(
    engine: Engine, pool: str, tmp_path: Path
) -> None:
    package = tmp_path / "broken_jobs"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "workflows.py").write_text("from orchestration.sdk import stage\n\nstage(\n")
    worker = engine.begin_worker(pool_id=pool, MAHAVISHNU_APPS="broken_jobs", PYTHONPATH=str(tmp_path))
    await eventually(lambda: not worker.is_alive(), what="the end of the worker")
    assert "This worker does not start" in worker.log_text()
    assert f"{package / 'workflows.py'}, line 3" in worker.log_text()
    assert engine.workers(pool) == []


async def test_worker_for_a_closed_pool_does_not_start(engine: Engine, pool: str) -> None:
    engine.server.services.create_pool(pool_id=pool)
    engine.server.services.close_pool(pool_id=pool)
    worker = engine.begin_worker(pool_id=pool)
    await eventually(lambda: not worker.is_alive(), what="the end of the worker")
    assert (
        f"This worker does not start: Pool {pool} is closed and accepts no workers. "
        "Expected an active or a draining pool." in worker.log_text()
    )
