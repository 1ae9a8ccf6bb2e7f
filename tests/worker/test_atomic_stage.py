"""Atomic stages in the process of the test: what is rolled back, and what is refused."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import IntegrityError, OperationalError, connection, transaction

from orchestration import services
from orchestration.models import FailedAttempt, Stage, StepRecord, StreamContent
from orchestration.sdk import InvalidDefinition, stage, workflow
from orchestration.services import Claim, Slot
from orchestration.testing import StageTimeout, WorkerLost, run_inline
from orchestration.worker.executor import run_stage
from orchestration.worker.outcome import record_outcome
from orchestration.worker.process_state import ProcessState
from orchestration.worker.slot_table import SharedSlot
from orchestration.worker.stage_result import Raised, Recorded
from orchestration.worker.stream_sender import AttemptStreams
from tests.adapters.attempt_runner import claim_attempt, slot_of

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

effects: list[Callable[[Any], Any]] = []
"""What the stage does after its write."""


@pytest.fixture(autouse=True)
def no_effects() -> Iterator[None]:
    yield
    effects.clear()


@stage(atomic=True, timeout_seconds=60)
def write(ctx: Any, inputs: dict[str, Any]) -> Any:
    Group.objects.create(name=f"{ctx.workflow_id} {ctx.attempt}")
    ctx.log("Written")
    return effects.pop(0)(ctx) if effects else "done"


@workflow(name="tests_atomic_writing")
def writing(prompt: str) -> Any:
    return [write]


def run_once(effect: Callable[[Any], Any]) -> tuple[Any, Stage]:
    """Run an attempt as a worker does, and record its outcome."""
    effects.append(effect)
    claim = claim_attempt(writing).claim
    slot = slot_of(claim.stage)
    result = call(claim, slot)
    assert record_outcome(claim, slot, result, continue_inline=True) is None
    return result, Stage.objects.get()


def output_of(stage: Stage) -> Any:
    assert stage.result is not None
    return stage.result["output"]


def call(claim: Claim, slot: Slot) -> Any:
    state, streams = ProcessState.capture(), AttemptStreams(claim)
    return run_stage(claim, slot, SharedSlot(), state, streams=streams, is_stopping=lambda: False)


def test_rows_and_end_of_an_atomic_stage_are_one_transaction() -> None:
    statuses: list[str] = []

    def look(ctx: Any) -> str:
        transaction.on_commit(lambda: statuses.append(Stage.objects.get().status))
        return "done"

    result, stored = run_once(look)
    assert isinstance(result, Recorded)
    assert (stored.status, output_of(stored), Group.objects.count()) == ("completed", "done", 1)
    assert statuses == ["completed"]


class WatchedStreams(AttemptStreams):
    """Notes whether the transaction of the stage is open when the end of the attempt waits for Redis."""

    def __init__(self, claim: Claim) -> None:
        super().__init__(claim)
        self.waited_in_transaction: list[bool] = []

    def close(self) -> None:
        self.waited_in_transaction.append(connection.in_atomic_block)
        super().close()


def test_end_of_streams_waits_for_redis_after_the_commit() -> None:
    def speak(ctx: Any) -> None:
        with ctx.stream("answer") as out:
            out.write("Hello")

    effects.append(speak)
    claim = claim_attempt(writing).claim
    streams = WatchedStreams(claim)
    slot, state = slot_of(claim.stage), ProcessState.capture()
    result = run_stage(claim, slot, SharedSlot(), state, streams=streams, is_stopping=lambda: False)
    assert isinstance(result, Recorded)
    assert streams.waited_in_transaction == [False]
    assert bytes(StreamContent.objects.get().content) == b"Hello"
    assert record_outcome(claim, slot, result, streams=streams, continue_inline=True) is None


def fail(ctx: Any) -> None:
    raise ValueError("No")


def step(ctx: Any) -> Any:
    return ctx.step("pay", lambda: 1)


def return_coroutine(ctx: Any) -> Any:
    async def later() -> None: ...

    return later()


def leave_open(ctx: Any) -> None:
    transaction.atomic().__enter__()


def handle_error(ctx: Any) -> None:
    with contextlib.suppress(IntegrityError):
        Group.objects.create(name=Group.objects.get().name)


@pytest.mark.parametrize(
    ("effect", "error"),
    [
        (fail, "ValueError: No"),
        (lambda ctx: ctx, "The stage returned a Context, which is not JSON: Object of type Context is not JSON "
                      "serializable"),
        (step, "Step pay is inside a transaction, whose end decides whether its output is stored. Expected a step "
               "outside of transaction.atomic(), and in a stage without atomic=True."),
        (return_coroutine, "The stage is atomic and returned a coroutine, which does not run in the thread of the "
                           "transaction. Expected a plain function."),
        (leave_open, "The stage left a transaction open (database default); it is rolled back. "
                     "Expected each transaction to end before the stage returns."),
        (handle_error, "TransactionManagementError: An error occurred in the current transaction. You can't execute "
                       "queries until the end of the 'atomic' block."),
    ],
)  # fmt: skip
def test_atomic_stage_that_fails_leaves_nothing(effect: Callable[[Any], Any], error: str) -> None:
    result, stored = run_once(effect)
    assert isinstance(result, Raised)
    assert (stored.status, stored.error) == ("failed", error)
    assert (Group.objects.count(), StepRecord.objects.count()) == (0, 0)
    assert not connection.in_atomic_block


def test_attempt_that_was_superseded_is_rolled_back() -> None:
    claim = claim_attempt(writing).claim
    slot = slot_of(claim.stage)
    services.release_attempt(claim.stage.pk, 1, slot=slot, error="It seemed lost")
    result = call(claim, slot)
    assert record_outcome(claim, slot, result, continue_inline=True) is None
    stored = Stage.objects.get()
    assert (stored.status, stored.attempt, Group.objects.count()) == ("queued", 1, 0)
    assert str(result.error) == "The stage has ended or has a newer attempt; what this attempt wrote is rolled back"


def test_attempt_whose_transaction_the_database_ends_is_lost_and_repeated() -> None:
    def lose(ctx: Any) -> None:
        raise OperationalError("deadlock detected")

    _, stored = run_once(lose)
    assert (stored.status, stored.lost_attempts, Group.objects.count()) == ("queued", 1, 0)
    assert FailedAttempt.objects.get().error == (
        "The database ended the transaction of the stage, which is rolled back: OperationalError: deadlock detected"
    )


def test_commit_whose_answer_is_lost_is_not_repeated() -> None:
    def lose_answer(ctx: Any) -> str:
        transaction.on_commit(lambda: (_ for _ in ()).throw(OperationalError("server closed the connection")))
        return "done"

    result, stored = run_once(lose_answer)
    assert isinstance(result, Raised)
    assert (stored.status, stored.lost_attempts, Group.objects.count()) == ("completed", 0, 1)


def test_forked_process_that_returns_from_an_atomic_stage_commits_nothing() -> None:
    parent = os.getpid()

    def fork(ctx: Any) -> Any:
        if (child := os.fork()) == 0:
            return "child"
        assert os.waitpid(child, 0)[1] == 0
        return "parent"

    result, stored = run_once(fork)
    assert os.getpid() == parent
    assert isinstance(result, Recorded)
    assert (output_of(stored), Group.objects.count()) == ("parent", 1)


def test_coroutine_function_cannot_be_atomic() -> None:
    async def later(ctx: Any, inputs: dict[str, Any]) -> None: ...

    later.__qualname__ = "later"
    with pytest.raises(InvalidDefinition, match=r"^Stage later is atomic and a coroutine function, "):
        stage(atomic=True)(later)


def test_inline_run_repeats_an_atomic_stage_and_keeps_its_rows_once() -> None:
    def lose(ctx: Any) -> None:
        raise WorkerLost

    effects.append(lose)
    result = run_inline(writing, workflow_id="inline")
    assert (result.output, result.stages["write"].attempts) == ("done", 2)
    assert [group.name for group in Group.objects.all()] == ["inline 2"]
    assert result.logs == ("Written", "Written")


def test_inline_atomic_stage_above_its_time_limit_is_rolled_back() -> None:
    def take_long(ctx: Any) -> None:
        raise StageTimeout

    effects.append(take_long)
    assert run_inline(writing).error == "The stage write failed: The stage took longer than 60 s"
    assert not Group.objects.exists()


@pytest.mark.django_db(transaction=False)
def test_inline_atomic_stage_works_within_the_transaction_of_a_test() -> None:
    effects.append(fail)
    assert run_inline(writing).error == "The stage write failed: ValueError: No"
    assert not Group.objects.exists()
    assert run_inline(writing).output == "done"
    assert Group.objects.count() == 1
