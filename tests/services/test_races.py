"""Threads, each with a connection of its own, that change the same rows at the same moment."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection

from orchestration import services
from orchestration.models import FailedAttempt, Pool, Stage, StageStatus, Worker, WorkerStatus, Workflow, WorkflowStatus
from orchestration.plan import Plan, Retry, StagePlan
from tests.models.counter_audit import assert_all_add_up
from tests.services.builders import pool_with, stage_with, worker_with, workflow_with
from tests.services.signal_recorder import RecordedSignal

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

ROUNDS = 5

Outcome = Any  # What a call returned, or the refusal it raised.


def together(*calls: Callable[[], object]) -> list[Outcome]:
    """Make the calls at the same moment, each in a thread of its own. Anything but a refusal is raised."""
    barrier = threading.Barrier(len(calls))

    def make(call: Callable[[], object]) -> Outcome:
        try:
            connection.ensure_connection()
            barrier.wait(timeout=60)
            return call()
        except services.ServiceError as refusal:
            return refusal
        finally:
            connection.close()

    with ThreadPoolExecutor(len(calls)) as threads:
        return list(threads.map(make, calls))


def the_one_refusal(outcomes: Sequence[Outcome]) -> services.ServiceError:
    """The refusal of the one call that was refused; all others went through."""
    (refusal,) = [outcome for outcome in outcomes if isinstance(outcome, services.ServiceError)]
    return refusal


def announced(recorded: list[RecordedSignal], name: str) -> int:
    return sum(each.name == name for each in recorded)


@pytest.mark.parametrize("_", range(ROUNDS))
def test_of_two_that_start_a_workflow_one_wins_and_the_other_is_told(_: int, recorded: list[RecordedSignal]) -> None:
    workflow_with(WorkflowStatus.PENDING)
    refusal = the_one_refusal(together(*[lambda: services.start_workflow(workflow_id="wf")] * 2))
    assert isinstance(refusal, services.IllegalTransition)
    assert (refusal.current, refusal.requested) == ("running", "running")
    assert announced(recorded, "workflow_started") == 1


@pytest.mark.parametrize("_", range(ROUNDS))
def test_of_four_ends_of_a_workflow_one_wins_and_the_others_are_told(_: int, recorded: list[RecordedSignal]) -> None:
    stage_with(StageStatus.QUEUED)
    outcomes = together(
        lambda: services.complete_workflow(workflow_id="wf"),
        lambda: services.fail_workflow(workflow_id="wf", error="It broke"),
        lambda: services.cancel_workflow(workflow_id="wf"),
        lambda: services.time_out_workflow(workflow_id="wf"),
    )
    (winner,) = [outcome for outcome in outcomes if isinstance(outcome, Workflow)]
    refusals = [outcome for outcome in outcomes if isinstance(outcome, services.IllegalTransition)]
    assert len(refusals) == 3
    assert {refusal.current for refusal in refusals} == {winner.status} == {Workflow.objects.get().status}
    ends = ("workflow_completed", "workflow_failed", "workflow_cancelled")
    assert sum(announced(recorded, name) for name in ends) == 1
    assert_all_add_up()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_of_two_that_complete_a_stage_one_wins_and_it_is_counted_once(_: int, recorded: list[RecordedSignal]) -> None:
    stage_with(StageStatus.RUNNING)
    complete = [lambda: services.complete_stage(workflow_id="wf", stage_name="one")] * 2
    refusal = the_one_refusal(together(*complete))
    assert isinstance(refusal, services.IllegalTransition)
    assert announced(recorded, "stage_completed") == 1
    assert (Workflow.objects.get().stages_completed, Pool.objects.get().tasks_completed) == (1, 1)
    assert_all_add_up()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_stages_completed_at_the_same_moment_are_all_counted(_: int) -> None:
    names = [f"stage_{number}" for number in range(4)]
    workflow_with(stages=names)
    outcomes = together(
        *[lambda name=name: services.complete_stage(workflow_id="wf", stage_name=name) for name in names]
    )
    assert sorted(stage.workflow.stages_completed for stage in outcomes) == [1, 2, 3, 4]
    assert_all_add_up()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_a_stage_completed_while_its_workflow_is_cancelled_is_either_the_one_or_the_other(_: int) -> None:
    stage_with(StageStatus.RUNNING)
    completed, cancelled = together(
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
def test_of_two_that_claim_a_worker_one_wins_and_the_other_is_told(_: int) -> None:
    worker_with()
    claim = [lambda: services.change_worker_status(worker_id="worker", status="busy")] * 2
    refusal = the_one_refusal(together(*claim))
    assert isinstance(refusal, services.IllegalTransition)
    assert_all_add_up()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_of_two_that_remove_a_worker_one_wins_and_the_other_is_told(_: int, recorded: list[RecordedSignal]) -> None:
    worker_with()
    refusal = the_one_refusal(together(*[lambda: services.remove_worker(worker_id="worker")] * 2))
    assert isinstance(refusal, services.WorkerNotFound)
    assert announced(recorded, "worker_removed") == 1
    assert_all_add_up()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_a_worker_deleted_twice_at_the_same_moment_is_counted_once(_: int, recorded: list[RecordedSignal]) -> None:
    worker_with()
    first, second = Worker.objects.get(), Worker.objects.get()
    together(first.delete, second.delete)
    assert announced(recorded, "worker_removed") == 1
    assert_all_add_up()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_of_two_that_take_an_id_one_wins_and_the_other_is_told(_: int, recorded: list[RecordedSignal]) -> None:
    refusal = the_one_refusal(together(*[lambda: services.create_pool(pool_id="pool")] * 2))
    assert isinstance(refusal, services.AlreadyExists)
    create = [
        lambda: services.create_workflow(workflow_id="wf", adapter="python", prompt="", stages=["one"], pool_id="pool")
    ] * 2
    refusal = the_one_refusal(together(*create))
    assert isinstance(refusal, services.AlreadyExists)
    assert (announced(recorded, "pool_created"), announced(recorded, "workflow_created")) == (1, 1)
    assert_all_add_up()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_a_worker_that_registers_twice_at_the_same_moment_is_added_once(_: int) -> None:
    pool_with()
    outcomes = together(*[lambda: services.register_worker(worker_id="worker", pool_id="pool")] * 2)
    # The second either finds the first one's row and starts anew, or is told that it came at the same moment.
    assert any(isinstance(outcome, Worker) for outcome in outcomes)
    assert all(isinstance(outcome, Worker | services.AlreadyExists) for outcome in outcomes)
    assert_all_add_up()


@pytest.mark.parametrize("change", [services.queue_stage, services.start_stage])
@pytest.mark.parametrize("_", range(ROUNDS))
def test_a_pool_closes_or_gets_work_but_not_both(change: Any, _: int) -> None:
    stage_with(StageStatus.PENDING)
    outcomes = together(lambda: change(workflow_id="wf", stage_name="one"), lambda: services.close_pool(pool_id="pool"))
    assert isinstance(the_one_refusal(outcomes), services.PoolNotAccepting | services.PoolNotEmpty)
    pool = Pool.objects.get()
    assert (pool.status == "closed") == (pool.queue_size + pool.tasks_running == 0)
    assert_all_add_up()


@pytest.mark.parametrize("_", range(ROUNDS))
def test_a_worker_registers_before_its_pool_closes_or_not_at_all(_: int) -> None:
    pool_with()
    registered, closed = together(
        lambda: services.register_worker(worker_id="worker", pool_id="pool"),
        lambda: services.close_pool(pool_id="pool"),
    )
    assert isinstance(closed, Pool)
    assert isinstance(registered, Worker | services.PoolNotAccepting)
    assert Worker.objects.exists() == isinstance(registered, Worker)
    assert_all_add_up()


# --- Attempts --------------------------------------------------------------------------------------------------------

LATER = datetime(9999, 1, 1, tzinfo=UTC)
"""Of whoever asks what had expired by then: everything has."""


def an_attempt() -> tuple[int, services.Slot]:
    """A stage that may be tried twice and runs for the first time, and who runs it."""
    plan = Plan(
        name="raced",
        adapter="python",
        stages=(StagePlan(name="one", step=0, retries=Retry(max_attempts=2, backoff_seconds=60)),),
    )
    stage = services.start_run(plan, prompt="", params={}, pool_id="pool", workflow_id="wf").stages.get()
    worker_id = services.join_pool(name="racer", process="racing", pool_id="pool")
    slot = services.Slot(worker_id=worker_id, process="racing")
    assert services.claim_stage(stage.pk, 1, slot=slot) is not None
    return stage.pk, slot


@pytest.mark.usefixtures("valkey")
@pytest.mark.parametrize("_", range(ROUNDS))
def test_of_two_schedulers_that_give_up_an_attempt_one_does_and_it_is_queued_once(
    _: int, recorded: list[RecordedSignal]
) -> None:
    stage_id, slot = an_attempt()
    outcomes = together(
        lambda: services.expire_lease(stage_id, expired_before=LATER),
        lambda: services.expire_lease(stage_id, expired_before=LATER),
        lambda: services.expire_worker(slot.worker_id, no_heartbeat_since=LATER),
        lambda: services.expire_worker(slot.worker_id, no_heartbeat_since=LATER),
    )
    # Whoever gives up the worker may come after the attempt was given up, or does both.
    assert (sum(outcomes[:2]) <= 1, sum(outcomes[2:])) == (True, 1)
    assert announced(recorded, "stage_retrying") == 1
    stage, failed = Stage.objects.get(), FailedAttempt.objects.get()
    assert (stage.status, stage.attempt, failed.attempt, failed.reason) == ("queued", 1, 1, "lost")
    assert Worker.objects.get().status == "offline"
    assert_all_add_up()


@pytest.mark.usefixtures("valkey")
@pytest.mark.parametrize("_", range(ROUNDS))
def test_an_attempt_that_is_given_up_as_it_ends_is_either_the_one_or_the_other(
    _: int, recorded: list[RecordedSignal]
) -> None:
    stage_id, slot = an_attempt()
    ended, given_up = together(
        lambda: services.complete_attempt(stage_id, 1, slot=slot, output="done"),
        lambda: services.expire_lease(stage_id, expired_before=LATER),
    )
    assert ended.accepted is not given_up
    told = {name: announced(recorded, name) for name in ("stage_completed", "stage_retrying", "workflow_completed")}
    assert told == {"stage_completed": not given_up, "stage_retrying": given_up, "workflow_completed": not given_up}
    assert Stage.objects.get().status == ("queued" if given_up else "completed")
    assert_all_add_up()


@pytest.mark.usefixtures("valkey")
@pytest.mark.parametrize("_", range(ROUNDS))
def test_of_two_schedulers_that_find_a_retry_due_one_queues_it(_: int) -> None:
    stage_id, slot = an_attempt()
    services.fail_attempt(stage_id, 1, slot=slot, error="It broke")
    outcomes = together(*[lambda: services.queue_retry(stage_id, due_before=LATER)] * 2)
    assert sorted(outcomes) == [False, True]
    assert Stage.objects.get().status == "queued"
    assert_all_add_up()


@pytest.mark.usefixtures("valkey")
@pytest.mark.parametrize("_", range(ROUNDS))
def test_of_two_workers_that_get_the_same_message_one_claims_the_stage(_: int, recorded: list[RecordedSignal]) -> None:
    stage_id, first = an_attempt()
    services.expire_lease(stage_id, expired_before=LATER)
    second = services.Slot(
        worker_id=services.join_pool(name="second", process="racing", pool_id="pool"), process="racing"
    )
    recorded.clear()
    claims = together(*[lambda slot=slot: services.claim_stage(stage_id, 2, slot=slot) for slot in (first, second)])
    assert sorted(claim is None for claim in claims) == [False, True]
    assert announced(recorded, "stage_started") == 1
    # The first is in error until its next claim, because it lost one.
    others = Worker.objects.exclude(status="busy")
    assert others.get().status == ("error" if claims[0] is None else "idle")
    assert_all_add_up()


# --- Everything ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_everybody_at_everything_neither_deadlocks_nor_miscounts(seed: int) -> None:
    """Four writers at random on the same few rows. A deadlock is an error of the database, and so fails this test."""
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

    together(*[lambda writer=writer: work(writer) for writer in range(4)])
    assert_all_add_up()
