"""Workers, brokers and messages that are lost, late or duplicated: a run ends once, with one result."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestration.processes import process_tree
from tests.broadcast.change_stream import committed
from tests.harness.client import connect
from tests.harness.engine import CeleryWorker, Engine, engine_of
from tests.harness.engine_fixtures import JOBS, SHORT_LEASE, Files
from tests.harness.fixtures import StartServer
from tests.harness.processes import has_ended
from tests.harness.server import MahavishnuServer
from tests.harness.valkey import frozen
from tests.harness.waiting import eventually
from tests.worker.run_events import RUN_AGAIN, events_until, events_until_end, outline


@pytest.fixture(scope="module")
def short_lease_server(start_shared_server: StartServer) -> Iterator[MahavishnuServer]:
    """Start a server for this module. It marks workers offline after some seconds without a heartbeat.

    Its Valkey may be stopped: no program waits long for it.
    """
    environment = {**JOBS, **SHORT_LEASE, "MAHAVISHNU_BROKER_TIMEOUT_SECONDS": "1"}
    server = start_shared_server(environment=environment, publish_timeout_seconds=1.0)
    for engine in engine_of(server):
        engine.scheduler()
        yield server
    server.close()


@pytest.fixture
def short_lease_engine(short_lease_server: MahavishnuServer) -> Iterator[Engine]:
    for engine in engine_of(short_lease_server):
        yield engine
        # A test that failed may have left it stopped: the workers end only with it, and the next test needs it.
        short_lease_server.valkey.ensure_running()


def kill_worker(worker: CeleryWorker) -> None:
    worker.kill()


def kill_child(worker: CeleryWorker) -> None:
    (child,) = worker.children()
    child.kill()


async def test_stage_runs_again_when_its_worker_is_killed(
    short_lease_engine: Engine, pool: str, tmp_path: Path
) -> None:
    engine = short_lease_engine
    worker = engine.worker(pool_id=pool)
    for name, kill in (("kill_9", kill_worker), ("power_cut", CeleryWorker.kill_with_children)):
        workflow_id = f"wf_{name}"
        directory = tmp_path / name
        directory.mkdir()
        files = Files(directory)
        async with connect(engine.server) as client, connect(engine.server) as worker_client:
            await client.subscribe(f"workflow:{workflow_id}")
            engine.start("gated", pool=pool, workflow_id=workflow_id, **files.params)
            await eventually(lambda files=files: len(files.journal()) == 1, what="the stage begins")  # type: ignore[misc]
            await worker_client.subscribe(f"worker:{pool}-test-1")
            kill(worker)
            (offline,) = await events_until(worker_client, "worker.status_changed")
            assert (offline["data"]["worker_id"], offline["data"]["status"]) == (f"{pool}-test-1", "offline")
            files.open_gate()
            worker = engine.worker(pool_id=pool)
            events = await events_until_end(client)
            await client.expect_nothing(0.5)
        assert outline(events) == RUN_AGAIN
        key = f"{workflow_id}/gate"
        assert files.journal() == [f"begins 1 {key}", f"begins 2 {key}", "ends 2"]
        stored = engine.workflow(workflow_id)
        assert (stored["status"], stored["stages"]["gate"]["attempt"]) == ("completed", 2)
        engine.assert_counters_match(pool)


async def test_worker_whose_process_died_is_in_error_until_its_next_claim(
    engine: Engine, shared_worker: CeleryWorker, files: Files
) -> None:
    pool, log_before = shared_worker.pool_id, shared_worker.log_text()
    async with connect(engine.server) as client, connect(engine.server) as worker_client:
        await client.subscribe("workflow:wf_child")
        engine.start("gated", pool=pool, workflow_id="wf_child", **files.params)
        await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
        await worker_client.subscribe(f"worker:{pool}-test-1")
        kill_child(shared_worker)
        await events_until(client, "workflow.stage_retrying")
        files.open_gate()
        events = await events_until_end(client)
        worker_events = await worker_client.events(4)
    assert outline(events) == RUN_AGAIN[-6:]
    assert outline(worker_events) == [
        f"worker.status_changed {pool}-test-1 error",
        f"worker.status_changed {pool}-test-1 busy",
        "worker.stage_changed third",
        f"worker.status_changed {pool}-test-1 idle",
    ]
    log = shared_worker.log_text().removeprefix(log_before)
    assert ("WorkerLostError" in log, "Traceback" in log) == (True, False), log
    assert files.journal()[1:] == ["begins 2 wf_child/gate", "ends 2"]
    engine.assert_counters_match(pool)


async def test_result_of_a_worker_frozen_beyond_its_lease_is_rejected(
    short_lease_engine: Engine, pool: str, files: Files
) -> None:
    engine = short_lease_engine
    frozen_worker = engine.worker(pool_id=pool)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_zombie")
        engine.start("gated", pool=pool, workflow_id="wf_zombie", **files.params)
        await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
        thaw = frozen_worker.freeze()
        await events_until(client, "workflow.stage_retrying")
        engine.worker(pool_id=pool)
        await eventually(lambda: len(files.journal()) == 2, what="the stage begins again")
        thaw()
        # The first attempt is cancelled and, because it ignores that, killed: it never ends normally.
        files.open_gate()
        events = await events_until_end(client)
        await eventually(lambda: engine.workers(pool) == ["idle", "idle"], what="the frozen worker is idle again")
        await client.expect_nothing(0.5)
    assert outline(events) == RUN_AGAIN[-6:]
    assert engine.workflow("wf_zombie")["stages"]["gate"]["result"]["output"] == 2
    engine.assert_counters_match(pool)


REPORT_LATE = """
from orchestration import services
from orchestration.models import Stage
stage = Stage.objects.get(workflow_id=workflow_id, name="gate")
slot = services.Slot(worker_id=worker_id, process="another")
result = [
    services.complete_attempt(stage.pk, 1, slot=slot, output="overdue").accepted,
    services.fail_attempt(stage.pk, 1, slot=slot, error="overdue").accepted,
    services.report_progress(stage.pk, 1, progress=1),
    services.report_message(stage.pk, 1, message="overdue"),
]
"""

SEND_AGAIN = """
from orchestration.dispatch import Message, dispatch
from orchestration.models import Stage
stage = Stage.objects.get(workflow_id=workflow_id, name="gate")
result = dispatch([Message(stage.pk, attempt, stage.pool_id)] * 5)
"""


async def test_duplicate_messages_run_a_stage_once(engine: Engine, pool: str, files: Files) -> None:
    engine.worker(pool_id=pool, concurrency=2)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_duplicates")
        engine.start("gated", pool=pool, workflow_id="wf_duplicates", **files.params)
        await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
        assert engine.execute(SEND_AGAIN, workflow_id="wf_duplicates", attempt=1) == 5
        assert engine.execute(SEND_AGAIN, workflow_id="wf_duplicates", attempt=2) == 5
        # The other slot consumes all of them before the gate opens, and is free for another run then.
        engine.start("three_empty_stages", pool=pool, workflow_id="wf_after_duplicates")
        await eventually(
            lambda: engine.workflow("wf_after_duplicates")["status"] == "completed", what="the other run ends"
        )
        files.open_gate()
        events = await events_until_end(client)
        assert engine.execute(SEND_AGAIN, workflow_id="wf_duplicates", attempt=1) == 5
        marker = engine.start("three_empty_stages", pool=pool)
        await eventually(lambda: engine.workflow(marker)["status"] == "completed", what="the last run ends")
    assert outline(events) == [*RUN_AGAIN[:6], *RUN_AGAIN[-4:]]
    assert [(event["seq"], event["id"]) for event in events] == committed(engine.server, "workflow:wf_duplicates")
    assert files.journal() == ["begins 1 wf_duplicates/gate", "ends 1"]
    engine.assert_counters_match(pool)


async def test_late_report_on_a_finished_attempt_changes_nothing(
    engine: Engine, shared_worker: CeleryWorker, files: Files
) -> None:
    pool = shared_worker.pool_id
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_late_report")
        engine.start("gated", pool=pool, workflow_id="wf_late_report", **files.params)
        await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
        kill_child(shared_worker)
        await eventually(lambda: len(files.journal()) == 2, what="the stage begins again")
        accepted = engine.execute(REPORT_LATE, workflow_id="wf_late_report", worker_id=f"{pool}-test-1")
        assert accepted == [False, False, False, False]
        files.open_gate()
        events = await events_until_end(client)
    assert outline(events) == RUN_AGAIN
    engine.assert_counters_match(pool)


async def test_stopped_worker_is_offline_at_once_and_its_stage_runs_elsewhere(
    engine: Engine, pool: str, files: Files
) -> None:
    worker = engine.worker(pool_id=pool, concurrency=2)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_stop")
        engine.start("gated", pool=pool, workflow_id="wf_stop", **files.params)
        await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
        processes = process_tree(worker.pid)
        assert worker.terminate() == 0
        await eventually(lambda: all(map(has_ended, processes)), what=f"the end of {processes}")
        await eventually(lambda: engine.workers(pool) == ["offline", "offline"], what="the workers are offline")
        engine.assert_counters_match(pool)
        files.open_gate()
        engine.worker(pool_id=pool, concurrency=2)
        events = await events_until_end(client)
    assert outline(events) == [line.replace("retrying gate 1 lost", "released gate 1") for line in RUN_AGAIN]
    assert engine.workers(pool) == ["idle", "idle"]
    engine.assert_counters_match(pool)


async def test_killed_supervisor_is_restarted(engine: Engine, shared_worker: CeleryWorker, files: Files) -> None:
    pool = shared_worker.pool_id
    engine.start("gated", pool=pool, workflow_id="wf_supervisor", **files.params)
    await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
    (first,) = shared_worker.supervisors()
    first.send_signal(signal.SIGKILL)
    await eventually(lambda: len(set(shared_worker.supervisors()) - {first}) == 1, what="another supervisor")
    files.open_gate()
    await eventually(lambda: engine.workflow("wf_supervisor")["status"] == "completed", what="the run ends")
    await eventually(lambda: engine.workers(pool) == ["idle"], what="the worker is free")
    engine.assert_counters_match(pool)


def start_dispatching_worker(engine: Engine, pool_id: str) -> None:
    """Start a worker that dispatches every stage through the broker, also those that it could continue with."""
    engine.worker(pool_id=pool_id, MAHAVISHNU_INLINE_CONTINUATION_SECONDS="0")


async def test_broker_outage_before_during_or_after_a_dispatch_delays_runs_and_loses_none(
    short_lease_engine: Engine, files: Files
) -> None:
    engine = short_lease_engine
    valkey = engine.server.valkey
    valkey.kill()
    before = engine.start("three_empty_stages", pool="broken")
    assert engine.workflow(before)["status"] == "running"
    valkey.start()
    start_dispatching_worker(engine, "broken")
    await eventually(lambda: engine.workflow(before)["status"] == "completed", what="the run from before")

    during = engine.start("gated", pool="broken", **files.params)
    await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
    valkey.kill()
    files.open_gate()
    await eventually(lambda: engine.workflow(during)["stages"]["third"]["status"] == "queued", what="the next")
    valkey.start()
    await eventually(lambda: engine.workflow(during)["status"] == "completed", what="the run from during")

    without_worker = engine.start("three_empty_stages", pool="later")
    valkey.kill()
    valkey.start()
    start_dispatching_worker(engine, "later")
    await eventually(lambda: engine.workflow(without_worker)["status"] == "completed", what="the run from after")
    for pool_id in ("broken", "later"):
        engine.assert_counters_match(pool_id)


async def test_stage_that_closes_every_file_does_not_end_the_worker_when_the_broker_connection_breaks(
    short_lease_engine: Engine, files: Files
) -> None:
    engine = short_lease_engine
    engine.worker(pool_id="closed", concurrency=2)
    run = engine.start("closed_files", pool="closed", **files.params)
    await eventually(lambda: len(files.journal()) == 1, what="the stage has closed its files")
    engine.server.valkey.kill()
    engine.server.valkey.start()
    await eventually(lambda: engine.workflow(run)["status"] == "failed", what="the timeout of the stage")
    after = engine.start("three_empty_stages", pool="closed")
    await eventually(lambda: engine.workflow(after)["status"] == "completed", what="the next run")


async def test_hung_broker_does_not_block_starts_for_long(short_lease_engine: Engine) -> None:
    engine = short_lease_engine
    warm = engine.start("three_empty_stages", pool="frozen")
    with frozen(engine.server.valkey):
        # It answers again only after all of them have returned, so none of them has waited for it.
        runs = [engine.start("three_empty_stages", pool="frozen") for _ in range(5)]
    start_dispatching_worker(engine, "frozen")
    for run in (warm, *runs):
        await eventually(lambda run=run: engine.workflow(run)["status"] == "completed", what="the run")  # type: ignore[misc]
    engine.assert_counters_match("frozen")
