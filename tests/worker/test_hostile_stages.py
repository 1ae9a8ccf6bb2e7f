"""Stages that leave something behind in their process: the engine and later stages do not suffer from it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.harness.engine import CeleryWorker, Engine, engine_of
from tests.harness.engine_fixtures import FAST_POLLING, JOBS
from tests.harness.fixtures import StartServer
from tests.harness.waiting import eventually

OPEN_TRANSACTION = (
    "The stage left a transaction open (database default); it is rolled back. "
    "Expected each transaction to end before the stage returns."
)


@pytest.fixture(scope="module")
def postgres_worker(start_shared_server: StartServer) -> Iterator[CeleryWorker]:
    server = start_shared_server(database="postgres", environment={**JOBS, **FAST_POLLING})
    for engine in engine_of(server):
        engine.scheduler()
        yield engine.worker(pool_id="hostile")
    server.close()


@pytest.fixture(params=["sqlite", "postgres"])
def worker(request: pytest.FixtureRequest) -> CeleryWorker:
    """Return a worker with one slot on each database."""
    name = "shared_worker" if request.param == "sqlite" else "postgres_worker"
    found: CeleryWorker = request.getfixturevalue(name)
    return found


@pytest.fixture
def engine(worker: CeleryWorker) -> Engine:
    """Return an engine beside the server of the worker."""
    return Engine(worker.server)


async def finished(engine: Engine, workflow_id: str) -> dict[str, object]:
    """Return what is stored of a run at its end, its output or its error, and the failed attempts."""
    await eventually(
        lambda: engine.workflow(workflow_id)["status"] not in ("pending", "running"), what=f"the end of {workflow_id}"
    )
    return engine.workflow(workflow_id)


async def output_of(engine: Engine, workflow_id: str) -> object:
    stored = await finished(engine, workflow_id)
    assert stored["status"] == "completed", stored
    result = stored["result"]
    assert isinstance(result, dict)
    return result["final_output"]


@pytest.mark.parametrize("how", ["generator", "exit stack", "no autocommit", "begin", "thread"])
async def test_stage_that_leaves_a_transaction_open_fails_in_words_and_harms_no_other_run(
    engine: Engine, worker: CeleryWorker, how: str
) -> None:
    (before,) = worker.children()
    run = engine.start("left_transaction", pool=worker.pool_id, prompt=how)
    # Another process writes, and the same worker runs the next stage.
    other = engine.start("three_empty_stages", pool=worker.pool_id)
    stored = await finished(engine, run)
    assert stored["failed_attempts"] == [["leave_transaction", 1, "failed", OPEN_TRANSACTION]]
    assert await output_of(engine, other) is None
    await eventually(lambda: before not in worker.children(), what="the process that held the transaction is replaced")
    assert engine.workers(worker.pool_id) == ["idle"]
    engine.assert_counters_match(worker.pool_id)


async def test_error_of_a_stage_that_left_a_transaction_open_is_its_own(engine: Engine, worker: CeleryWorker) -> None:
    stored = await finished(engine, engine.start("left_transaction", pool=worker.pool_id, prompt="error"))
    assert stored["failed_attempts"] == [["leave_transaction", 1, "failed", "LookupError: Its own error"]]
    assert await output_of(engine, engine.start("one_empty_stage", pool=worker.pool_id)) is None


async def test_setting_of_a_session_ends_with_its_stage(engine: Engine, worker: CeleryWorker) -> None:
    default = 0 if worker.pool_id == "shared" else "0"
    (before,) = worker.children()
    for _ in range(2):
        assert await output_of(engine, engine.start("changed_session", pool=worker.pool_id)) == default
    assert worker.children() == [before], "the same process ran both stages"


async def test_postgres_ends_an_idle_transaction_of_the_engine_but_not_of_a_stage(
    postgres_worker: CeleryWorker,
) -> None:
    engine = Engine(postgres_worker.server)
    run = engine.start("reported_idle_timeouts", pool=postgres_worker.pool_id)
    assert await output_of(engine, run) == ["0", "1min"]


async def test_stage_may_log_inside_a_transaction(engine: Engine, worker: CeleryWorker) -> None:
    (before,) = worker.children()
    assert await output_of(engine, engine.start("logged_in_transaction", pool=worker.pool_id)) == "done"
    assert worker.children() == [before]


@pytest.mark.parametrize("how", ["clear", "replace", "hard limit"])
async def test_next_stage_finds_the_process_as_it_was(engine: Engine, worker: CeleryWorker, how: str) -> None:
    (before,) = worker.children()
    first = await output_of(engine, engine.start("changed_process", pool=worker.pool_id, prompt=how))
    if how == "hard limit":
        await eventually(lambda: before not in worker.children(), what="another process")
    assert await output_of(engine, engine.start("changed_process", pool=worker.pool_id)) == first
    assert await output_of(engine, engine.start("look_around", pool=worker.pool_id)) == ["left", "right"]
    assert isinstance(first, list)
    assert (first[0], first[2], first[4], *first[6:]) == (True, False, None, False, True, True)


@pytest.mark.parametrize(("how", "exit_code"), [("returns", 0), ("raises", 1)])
async def test_forked_process_that_returns_from_the_stage_records_nothing(
    engine: Engine, worker: CeleryWorker, how: str, exit_code: int
) -> None:
    assert await output_of(engine, engine.start("forked", pool=worker.pool_id, prompt=how)) == exit_code
    assert await output_of(engine, engine.start("one_empty_stage", pool=worker.pool_id)) is None


async def test_sigterm_to_a_child_lets_its_stage_end_and_then_replaces_it(engine: Engine, worker: CeleryWorker) -> None:
    (before,) = worker.children()
    run = engine.start("terminated", pool=worker.pool_id)
    assert await output_of(engine, run) == before.pid
    await eventually(lambda: before not in worker.children(), what="another process")
    assert await output_of(engine, engine.start("one_empty_stage", pool=worker.pool_id)) is None
    stored = engine.workflow(run)
    assert (stored["stages"]["terminate_itself"]["attempt"], stored["failed_attempts"]) == (1, [])
    assert engine.workers(worker.pool_id) == ["idle"]
