"""Workers, brokers and messages that are lost, late or doubled: a run ends once, and everybody agrees on how."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest

from tests.broadcast.change_stream import committed
from tests.harness.client import connect
from tests.harness.engine import CeleryWorker, Engine, engine_of, has_ended, kill_everything
from tests.harness.engine_fixtures import GIVES_UP_SOON, JOBS, LOOKS_OFTEN, Files
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.worker.run_events import eventually, in_short, told, until, until_the_end


@pytest.fixture(scope="module")
def impatient_server(start_shared_server: StartServer) -> Iterator[MahavishnuServer]:
    """A server of this module's own, which gives workers up that are silent for some seconds."""
    server = start_shared_server(environment={**JOBS, **GIVES_UP_SOON})
    for engine in engine_of(server):
        engine.scheduler()
        yield server
    server.close()


@pytest.fixture
def impatient(impatient_server: MahavishnuServer) -> Iterator[Engine]:
    yield from engine_of(impatient_server)


def kill_worker(worker: CeleryWorker) -> None:
    worker.kill()


def kill_child(worker: CeleryWorker) -> None:
    (child,) = worker.children()
    child.kill()


RUN_AGAIN = [
    "workflow.created",
    "workflow.started",
    "workflow.stage_started first",
    "workflow.stage_completed first",
    "workflow.stage_started gate",
    "workflow.stage_retrying gate 1 lost",
    "workflow.stage_started gate",
    "workflow.stage_completed gate",
    "workflow.stage_started third",
    "workflow.stage_completed third",
    "workflow.completed",
]


@pytest.mark.parametrize("kill", [kill_worker, kill_everything], ids=["kill -9 of the worker", "a power cut"])
async def test_a_stage_runs_again_when_its_worker_is_gone(
    impatient: Engine, pool: str, files: Files, kill: Callable[[CeleryWorker], None]
) -> None:
    engine = impatient
    worker = engine.worker(pool_id=pool)
    async with connect(engine.server) as client, connect(engine.server) as pool_client:
        await client.subscribe(f"workflow:wf_{pool}")
        engine.start("gated", pool=pool, workflow_id=f"wf_{pool}", **files.params)
        await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
        await pool_client.subscribe(f"worker:{pool}-test-1")
        kill(worker)
        (offline,) = await until(pool_client, "worker.status_changed")
        assert told(offline)[1] == {"worker_id": f"{pool}-test-1", "status": "offline", "pool_id": pool}
        files.open_gate()
        engine.worker(pool_id=pool)
        events = await until_the_end(client)
        await client.expect_nothing(0.5)
    assert in_short(events) == RUN_AGAIN
    key = f"wf_{pool}/gate"
    assert files.journal() == [f"begins 1 {key}", f"begins 2 {key}", "ends 2"]
    stored = engine.workflow(f"wf_{pool}")
    assert (stored["status"], stored["stages"]["gate"]["attempt"]) == ("completed", 2)
    engine.assert_adds_up(pool)


async def test_a_worker_whose_process_died_is_in_error_until_it_works_again(
    engine: Engine, pool: str, files: Files
) -> None:
    worker = engine.worker(pool_id=pool)
    async with connect(engine.server) as client, connect(engine.server) as worker_client:
        await client.subscribe("workflow:wf_child")
        engine.start("gated", pool=pool, workflow_id="wf_child", **files.params)
        await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
        await worker_client.subscribe(f"worker:{pool}-test-1")
        kill_child(worker)
        await until(client, "workflow.stage_retrying")
        files.open_gate()
        events = await until_the_end(client)
        statuses = [event["data"]["status"] for event in await worker_client.events(3)]
    assert in_short(events)[-5:] == RUN_AGAIN[-5:]
    assert statuses == ["error", "busy", "idle"]
    said = worker.log_text()
    assert ("WorkerLostError" in said, "Traceback" in said) == (True, False), said
    assert files.journal()[1:] == ["begins 2 wf_child/gate", "ends 2"]
    engine.assert_adds_up(pool)


async def test_the_result_of_a_worker_that_slept_past_its_lease_is_refused(
    impatient: Engine, pool: str, files: Files
) -> None:
    engine = impatient
    sleeper = engine.worker(pool_id=pool)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_zombie")
        engine.start("gated", pool=pool, workflow_id="wf_zombie", **files.params)
        await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
        thaw = sleeper.freeze()
        await until(client, "workflow.stage_retrying")
        engine.worker(pool_id=pool)
        await eventually(lambda: len(files.journal()) == 2, what="the stage begins again")
        thaw()
        # The first attempt is told that it is not wanted and, as it does not listen, ended: it never gets to its end.
        files.open_gate()
        events = await until_the_end(client)
        await eventually(lambda: engine.workers(pool) == ["idle", "idle"], what="the sleeper is back")
        await client.expect_nothing(0.5)
    assert in_short(events) == RUN_AGAIN[-6:] or in_short(events) == RUN_AGAIN[-5:]
    assert engine.workflow("wf_zombie")["stages"]["gate"]["result"]["output"] == 2
    engine.assert_adds_up(pool)


REFUSE = """
from orchestration import services
from orchestration.models import Stage
stage = Stage.objects.get(workflow_id=workflow_id, name="gate")
slot = services.Slot(worker_id=worker_id, process="somebody")
result = [
    services.complete_attempt(stage.pk, 1, slot=slot, output="late").accepted,
    services.fail_attempt(stage.pk, 1, slot=slot, error="late").accepted,
    services.report_progress(stage.pk, 1, progress=1),
    services.report_message(stage.pk, 1, message="late"),
    services.claim_stage(stage.pk, 3, slot=slot) if False else None,
]
"""

SEND_AGAIN = """
from orchestration.dispatch import Message, dispatch
from orchestration.models import Stage
stage = Stage.objects.get(workflow_id=workflow_id, name="gate")
result = dispatch([Message(stage.pk, attempt, stage.pool_id)] * 5)
"""


async def test_the_same_message_five_times_runs_a_stage_once(engine: Engine, pool: str, files: Files) -> None:
    engine.worker(pool_id=pool, concurrency=2)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_doubled")
        engine.start("gated", pool=pool, workflow_id="wf_doubled", **files.params)
        await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
        assert engine.execute(SEND_AGAIN, workflow_id="wf_doubled", attempt=1) == 5
        assert engine.execute(SEND_AGAIN, workflow_id="wf_doubled", attempt=2) == 5
        # The other slot takes all of them before the gate opens: it is free for another run then.
        engine.start("three_empty_stages", pool=pool, workflow_id="wf_after_the_doubled")
        await eventually(
            lambda: engine.workflow("wf_after_the_doubled")["status"] == "completed", what="the other run ends"
        )
        files.open_gate()
        events = await until_the_end(client)
        assert engine.execute(SEND_AGAIN, workflow_id="wf_doubled", attempt=1) == 5
        marker = engine.start("three_empty_stages", pool=pool)
        await eventually(lambda: engine.workflow(marker)["status"] == "completed", what="the last run ends")
    assert in_short(events) == [*RUN_AGAIN[:5], *RUN_AGAIN[-4:]]
    assert [(event["seq"], event["id"]) for event in events] == committed(engine.server, "workflow:wf_doubled")
    assert files.journal() == ["begins 1 wf_doubled/gate", "ends 1"]
    engine.assert_adds_up(pool)


async def test_a_late_word_on_an_attempt_that_is_over_changes_nothing(engine: Engine, pool: str, files: Files) -> None:
    worker = engine.worker(pool_id=pool)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_late_word")
        engine.start("gated", pool=pool, workflow_id="wf_late_word", **files.params)
        await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
        kill_child(worker)
        await eventually(lambda: len(files.journal()) == 2, what="the stage begins again")
        refused = engine.execute(REFUSE, workflow_id="wf_late_word", worker_id=f"{pool}-test-1")
        assert refused == [False, False, False, False, None]
        files.open_gate()
        events = await until_the_end(client)
    assert in_short(events) == RUN_AGAIN
    engine.assert_adds_up(pool)


async def test_a_worker_that_is_told_to_stop_is_offline_at_once_and_hands_back_what_it_ran(
    engine: Engine, pool: str, files: Files
) -> None:
    worker = engine.worker(pool_id=pool, concurrency=2)
    async with connect(engine.server) as client:
        await client.subscribe("workflow:wf_stop")
        engine.start("gated", pool=pool, workflow_id="wf_stop", **files.params)
        await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
        everything = worker.everything()
        assert worker.terminate() == 0
        await eventually(lambda: all(map(has_ended, everything)), what=f"the end of {everything}")
        await eventually(lambda: engine.workers(pool) == ["offline", "offline"], what="the workers are offline")
        engine.assert_adds_up(pool)
        files.open_gate()
        engine.worker(pool_id=pool, concurrency=2)
        events = await until_the_end(client)
    assert in_short(events) == RUN_AGAIN
    assert engine.workers(pool) == ["idle", "idle"]
    engine.assert_adds_up(pool)


async def test_a_keeper_that_is_killed_is_replaced(engine: Engine, pool: str, files: Files) -> None:
    worker = engine.worker(pool_id=pool)
    engine.start("gated", pool=pool, workflow_id="wf_keeper", **files.params)
    await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
    (first,) = worker.keepers()
    first.send_signal(signal.SIGKILL)
    await eventually(lambda: len(set(worker.keepers()) - {first}) == 1, what="another keeper")
    files.open_gate()
    await eventually(lambda: engine.workflow("wf_keeper")["status"] == "completed", what="the run ends")
    await eventually(lambda: engine.workers(pool) == ["idle"], what="the worker is free")
    engine.assert_adds_up(pool)


@pytest.fixture
def broken(start_server: StartServer) -> Iterator[Engine]:
    """An engine whose broker the test stops; every stage goes over it."""
    environment = {
        **JOBS,
        **LOOKS_OFTEN,
        "MAHAVISHNU_INLINE_CONTINUATION_SECONDS": "0",
        "MAHAVISHNU_BROKER_TIMEOUT_SECONDS": "1",
    }
    for engine in engine_of(start_server(environment=environment, publish_timeout_seconds=1.0)):
        engine.scheduler()
        yield engine


async def test_a_broker_that_stops_before_during_and_after_a_dispatch_delays_runs_and_loses_none(
    broken: Engine, files: Files
) -> None:
    valkey = broken.server.valkey
    valkey.kill()
    before = broken.start("three_empty_stages", pool="broken")
    assert broken.workflow(before)["status"] == "running"
    valkey.start()
    broken.worker(pool_id="broken")
    await eventually(lambda: broken.workflow(before)["status"] == "completed", what="the run from before")

    during = broken.start("gated", pool="broken", **files.params)
    await eventually(lambda: len(files.journal()) == 1, what="the stage begins")
    valkey.kill()
    files.open_gate()
    await eventually(lambda: broken.workflow(during)["stages"]["third"]["status"] == "queued", what="the next one")
    valkey.start()
    await eventually(lambda: broken.workflow(during)["status"] == "completed", what="the run from during")

    worker_less = broken.start("three_empty_stages", pool="later")
    valkey.kill()
    valkey.start()
    broken.worker(pool_id="later")
    await eventually(lambda: broken.workflow(worker_less)["status"] == "completed", what="the run from after")
    for pool_id in ("broken", "later"):
        broken.assert_adds_up(pool_id)


async def test_a_broker_that_does_not_answer_holds_up_nobody_for_long(broken: Engine) -> None:
    valkey = broken.server.valkey
    warm = broken.start("three_empty_stages", pool="frozen")
    valkey.pause()
    # It answers only after all of them have returned, and so none of them has waited for it.
    runs = [broken.start("three_empty_stages", pool="frozen") for _ in range(5)]
    valkey.resume()
    broken.worker(pool_id="frozen")
    for run in (warm, *runs):
        await eventually(lambda run=run: broken.workflow(run)["status"] == "completed", what="the run")  # type: ignore[misc]
    broken.assert_adds_up("frozen")
