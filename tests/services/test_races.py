"""Concurrent changes of the same rows."""

from __future__ import annotations

import random
from typing import Any

import pytest
from django.utils import timezone

from orchestration import services
from orchestration.models import Pool, Stage, StageStatus, Worker, WorkerStatus, Workflow, WorkflowStatus
from orchestration.services.pools import ensure_pool
from tests.models.counter_audit import assert_all_add_up
from tests.services.builders import pool_with, stage_with, worker_with, workflow_with
from tests.services.concurrency import ROUNDS, count_signals, run_concurrently, single_error
from tests.services.signal_recorder import RecordedSignal

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize("_", range(ROUNDS))
def test_concurrent_start_workflow_succeeds_once(_: int, recorded: list[RecordedSignal]) -> None:
    workflow_with(WorkflowStatus.PENDING)
    error = single_error(run_concurrently(*[lambda: services.start_workflow(workflow_id="wf")] * 2))
    assert isinstance(error, services.IllegalTransition)
    assert (error.current, error.requested) == ("running", "running")
    assert count_signals(recorded, "workflow_started") == 1


@pytest.mark.parametrize("_", range(ROUNDS))
def test_concurrent_ends_of_a_workflow_succeed_once(_: int, recorded: list[RecordedSignal]) -> None:
    stage_with(StageStatus.QUEUED)
    outcomes = run_concurrently(
        lambda: services.complete_workflow(workflow_id="wf"),
        lambda: services.fail_workflow(workflow_id="wf", error="It broke"),
        lambda: services.cancel_workflow(workflow_id="wf"),
        lambda: services.time_out_workflow(workflow_id="wf"),
    )
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Workflow)]
    errors = [outcome for outcome in outcomes if isinstance(outcome, services.IllegalTransition)]
    assert len(errors) == 3
    assert {error.current for error in errors} == {winner.status} == {Workflow.objects.get().status}
    ends = ("workflow_completed", "workflow_failed", "workflow_cancelled")
    assert sum(count_signals(recorded, name) for name in ends) == 1
    assert_all_add_up()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_concurrent_complete_stage_succeeds_and_counts_once(_: int, recorded: list[RecordedSignal]) -> None:
    stage_with(StageStatus.RUNNING)
    complete = [lambda: services.complete_stage(workflow_id="wf", stage_name="one")] * 2
    error = single_error(run_concurrently(*complete))
    assert isinstance(error, services.IllegalTransition)
    assert count_signals(recorded, "stage_completed") == 1
    assert (Workflow.objects.get().stages_completed, Pool.objects.get().tasks_completed) == (1, 1)
    assert_all_add_up()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_concurrent_completions_of_different_stages_are_all_counted(_: int) -> None:
    names = [f"stage_{number}" for number in range(4)]
    workflow_with(stages=names)
    outcomes = run_concurrently(
        *[lambda name=name: services.complete_stage(workflow_id="wf", stage_name=name) for name in names]
    )
    assert sorted(stage.workflow.stages_completed for stage in outcomes) == [1, 2, 3, 4]
    assert_all_add_up()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_stage_is_completed_or_cancelled_with_its_workflow(_: int) -> None:
    stage_with(StageStatus.RUNNING)
    completed, cancelled = run_concurrently(
        lambda: services.complete_stage(workflow_id="wf", stage_name="one"),
        lambda: services.cancel_workflow(workflow_id="wf"),
    )
    assert isinstance(cancelled, Workflow)
    stage = Stage.objects.get(name="one")
    if isinstance(completed, Stage):
        assert stage.status == "completed"
    else:
        assert isinstance(completed, services.IllegalTransition)
        assert (stage.status, completed.current) == ("cancelled", "cancelled")
    assert_all_add_up()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_concurrent_busy_reports_of_a_worker_succeed_once(_: int) -> None:
    worker_with()
    claim = [lambda: services.change_worker_status(worker_id="worker", status="busy")] * 2
    error = single_error(run_concurrently(*claim))
    assert isinstance(error, services.IllegalTransition)
    assert_all_add_up()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_concurrent_removal_raises_not_found_for_the_loser(_: int, recorded: list[RecordedSignal]) -> None:
    worker_with()
    error = single_error(run_concurrently(*[lambda: services.remove_worker(worker_id="worker")] * 2))
    assert isinstance(error, services.WorkerNotFound)
    assert count_signals(recorded, "worker_removed") == 1
    assert_all_add_up()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_concurrent_deletes_of_a_worker_count_once(_: int, recorded: list[RecordedSignal]) -> None:
    worker_with()
    first, second = Worker.objects.get(), Worker.objects.get()
    run_concurrently(first.delete, second.delete)
    assert count_signals(recorded, "worker_removed") == 1
    assert_all_add_up()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_concurrent_creation_with_one_id_succeeds_once(_: int, recorded: list[RecordedSignal]) -> None:
    error = single_error(run_concurrently(*[lambda: services.create_pool(pool_id="pool")] * 2))
    assert isinstance(error, services.AlreadyExists)
    create = [
        lambda: services.create_workflow(workflow_id="wf", adapter="python", prompt="", stages=["one"], pool_id="pool")
    ] * 2
    error = single_error(run_concurrently(*create))
    assert isinstance(error, services.AlreadyExists)
    assert (count_signals(recorded, "pool_created"), count_signals(recorded, "workflow_created")) == (1, 1)
    assert_all_add_up()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_concurrent_ensure_pool_creates_one_pool(_: int, recorded: list[RecordedSignal]) -> None:
    assert run_concurrently(*[lambda: ensure_pool("pool", at=timezone.now())] * 2) == ["active", "active"]
    assert count_signals(recorded, "pool_created") == 1


@pytest.mark.parametrize("_", range(ROUNDS))
def test_concurrent_registrations_add_one_worker(_: int) -> None:
    pool_with()
    outcomes = run_concurrently(*[lambda: services.register_worker(worker_id="worker", pool_id="pool")] * 2)
    # The second call finds the row and registers again, or fails because of the concurrent insert.
    assert any(isinstance(outcome, Worker) for outcome in outcomes)
    assert all(isinstance(outcome, Worker | services.AlreadyExists) for outcome in outcomes)
    assert_all_add_up()


@pytest.mark.parametrize("change", [services.queue_stage, services.start_stage])
@pytest.mark.parametrize("_", range(ROUNDS))
def test_pool_closes_or_gets_work_but_not_both(change: Any, _: int) -> None:
    stage_with(StageStatus.PENDING)
    outcomes = run_concurrently(
        lambda: change(workflow_id="wf", stage_name="one"), lambda: services.close_pool(pool_id="pool")
    )
    assert isinstance(single_error(outcomes), services.PoolNotAccepting | services.PoolNotEmpty)
    pool = Pool.objects.get()
    assert (pool.status == "closed") == (pool.queue_size + pool.tasks_running == 0)
    assert_all_add_up()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_worker_registers_before_its_pool_closes_or_is_rejected(_: int) -> None:
    pool_with()
    registered, closed = run_concurrently(
        lambda: services.register_worker(worker_id="worker", pool_id="pool"),
        lambda: services.close_pool(pool_id="pool"),
    )
    assert isinstance(closed, Pool)
    assert isinstance(registered, Worker | services.PoolNotAccepting)
    assert Worker.objects.exists() == isinstance(registered, Worker)
    assert_all_add_up()


@pytest.mark.parametrize("seed", range(3))
def test_random_concurrent_changes_neither_deadlock_nor_miscount(seed: int) -> None:
    """Change a few rows at random from four threads. A deadlock is a database error and fails the test."""
    workers, stages = ["w0", "w1"], ["s0", "s1", "s2", "s3"]
    pool_with()
    for worker_id in workers:
        services.register_worker(worker_id=worker_id, pool_id="pool")
    for number in range(6):
        workflow_with(workflow_id=f"wf{number}", stages=stages)

    def work(writer: int) -> None:
        choices = random.Random(1000 * seed + writer)
        for _ in range(60):
            worker_id = choices.choice(workers)
            workflow_id = f"wf{choices.randrange(6)}"
            of_stage: dict[str, Any] = {"workflow_id": workflow_id, "stage_name": choices.choice(stages)}
            kind = choices.randrange(12)
            try:
                match kind:
                    case 0:
                        services.remove_worker(worker_id=worker_id)
                    case 1 | 2:
                        services.register_worker(worker_id=worker_id, pool_id="pool")
                    case 3 | 4:
                        status = choices.choice(WorkerStatus.values)
                        services.change_worker_status(worker_id=worker_id, status=status)
                    case 5 | 6:
                        services.start_stage(**of_stage, worker_id=worker_id)
                    case 7:
                        services.queue_stage(**of_stage)
                    case 8:
                        services.complete_stage(**of_stage)
                    case 9:
                        services.fail_stage(**of_stage, error="It broke")
                    case 10:
                        stage = Stage.objects.get(workflow_id=workflow_id, name=of_stage["stage_name"])
                        stage.save(update_fields=["duration_ms"])
                    case _ if choices.random() < 0.2:
                        services.cancel_workflow(workflow_id=workflow_id)
            except services.ServiceError:
                pass

    run_concurrently(*[lambda writer=writer: work(writer) for writer in range(4)])
    assert_all_add_up()
