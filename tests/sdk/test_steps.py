"""`ctx.step` in plain stages and on event loops: what is called, stored, returned and refused."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from orchestration import services, signals
from orchestration.limits import EngineLimits
from orchestration.models import StepRecord
from orchestration.sdk import Context, StageFailed, StaleAttempt, StepRefused
from orchestration.sdk.outcome import BadOutput
from tests.adapters.attempt_runner import Attempt, claim_attempt, slot_of
from tests.testing import shop

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture
def attempt() -> Attempt:
    return claim_attempt(shop.rejected_order)


@pytest.fixture
def ctx(attempt: Attempt) -> Context:
    return attempt.context()


class Payments:
    """Counts what is paid."""

    def __init__(self) -> None:
        self.paid: list[Any] = []

    def pay(self, *what: Any, **more: Any) -> Any:
        self.paid.append(what)
        return {"receipt": what, **more}

    async def pay_later(self, *what: Any) -> Any:
        await asyncio.sleep(0)
        return self.pay(*what)


@pytest.fixture
def payments() -> Payments:
    return Payments()


def test_step_is_called_once_and_returns_what_is_read_back(ctx: Context, attempt: Attempt, payments: Payments) -> None:
    for each in (ctx, ctx, attempt.context()):
        assert each.step("pay", payments.pay, 1, (2,), tip=3) == {"receipt": [1, [2]], "tip": 3}
    assert payments.paid == [(1, (2,))]
    record = StepRecord.objects.get()
    assert (record.name, record.attempt, record.output_bytes) == ("pay", 1, len('{"receipt": [1, [2]], "tip": 3}'))


def test_step_that_returns_nothing_is_remembered(ctx: Context, payments: Payments) -> None:
    def pay() -> None:
        payments.pay()

    assert ctx.step("pay", pay) is None
    assert ctx.step("pay", pay) is None
    assert len(payments.paid) == 1


@pytest.mark.parametrize("other", [(2,), (1, 1), (), (1.0,), (True,), ("1",)])
def test_step_with_other_arguments_is_refused(ctx: Context, payments: Payments, other: tuple[Any, ...]) -> None:
    ctx.step("pay", payments.pay, 1)
    with pytest.raises(StepRefused) as error:
        ctx.step("pay", payments.pay, *other)
    assert str(error.value) == (
        "Step pay was completed with other arguments; expected the same arguments for each call, or another name."
    )
    assert (payments.paid, error.value.may_retry) == ([(1,)], False)


def test_step_that_raises_is_not_remembered(ctx: Context, payments: Payments) -> None:
    def fail() -> None:
        raise services.InvalidArgument("price", 0, "a price")

    with pytest.raises(services.InvalidArgument):
        ctx.step("pay", fail)
    assert not StepRecord.objects.exists()
    assert ctx.step("pay", payments.pay) == {"receipt": []}


@pytest.mark.parametrize(
    ("name", "function", "arguments", "error"),
    [
        ("", len, ([],), "step is ''; expected text of at most 128 characters, not blank, "),
        ("n" * 129, len, ([],), "step is 'nnnnnnnnn"),
        (
            "pay",
            len,
            (object(),),
            "Step pay: its arguments cannot be compared with those of an earlier attempt, because ",
        ),
        ("pay", object, (), "Step pay returned an object, which is not JSON: "),
        ("pay", "x".__mul__, (2000,), "Step pay returned 2002 bytes of JSON; at most 1024 are stored. "),
        ("pay", Payments().pay_later, (), "Step pay is a coroutine function: use await ctx.step(…) in an async stage."),
        (
            "pay",
            lambda: Payments().pay_later(),
            (),
            "Step pay returned a coroutine: use await ctx.step(…) in an async ",
        ),
    ],
)
def test_step_that_cannot_be_stored_is_refused(
    ctx: Context, settings: Any, name: str, function: Callable[..., Any], arguments: tuple[Any, ...], error: str
) -> None:
    settings.MAHAVISHNU_ENGINE = EngineLimits(max_result_bytes=1024)
    with pytest.raises(StageFailed) as raised:
        ctx.step(name, function, *arguments)
    assert str(raised.value).startswith(error)
    assert isinstance(raised.value, StepRefused | BadOutput)
    assert not raised.value.may_retry
    assert not StepRecord.objects.exists()


def test_step_above_the_maximum_is_not_called(
    ctx: Context, attempt: Attempt, settings: Any, payments: Payments
) -> None:
    settings.MAHAVISHNU_ENGINE = EngineLimits(max_steps=2)
    for number in range(2):
        ctx.step(f"pay {number}", payments.pay, number)
    for each in (ctx, attempt.context()):
        with pytest.raises(StepRefused) as error:
            each.step("pay 2", payments.pay, 2)
        assert str(error.value) == "Step pay 2 is not started: a stage may have 2 steps."
    assert ctx.step("pay 1", payments.pay, 1) == {"receipt": [1]}
    assert payments.paid == [(0,), (1,)]


def test_step_inside_a_transaction_is_refused(ctx: Context, payments: Payments) -> None:
    with transaction.atomic(), pytest.raises(StepRefused, match=r"^Step pay is inside a transaction, "):
        ctx.step("pay", payments.pay)
    assert payments.paid == []


def test_step_that_calls_itself_is_refused(ctx: Context) -> None:
    def outer() -> Any:
        return ctx.step("inner", lambda: ctx.step("outer", outer))

    with pytest.raises(StepRefused) as error:
        ctx.step("outer", outer)
    assert str(error.value) == "Step outer calls itself: expected another name for a step inside a step."


def test_ended_attempt_calls_and_stores_no_step(ctx: Context, attempt: Attempt, payments: Payments) -> None:
    stage = attempt.claim.stage

    def end() -> None:
        payments.pay()
        services.fail_attempt(stage.pk, 1, slot=slot_of(stage), error="It was lost")

    for step in ("ends while it is called", "begins afterwards"):
        with pytest.raises(StaleAttempt) as error:
            ctx.step(step, end)
        assert str(error.value) == "Attempt 1 is no longer the running one of its stage."
    assert (len(payments.paid), StepRecord.objects.count()) == (1, 0)


def test_steps_on_an_event_loop_are_called_once(ctx: Context, payments: Payments) -> None:
    async def stage() -> list[Any]:
        calls = (ctx.step("pay", payments.pay_later, 1) for _ in range(3))
        same = await asyncio.gather(*calls, ctx.step("tip", lambda what: payments.pay_later(what), 2))
        return [*same, await ctx.step("plain", payments.pay, 3), await ctx.step("plain", payments.pay, 3)]

    one, two, three = ({"receipt": [number]} for number in (1, 2, 3))
    assert ctx.run_coroutine(stage()) == [one, one, one, two, three, three]
    assert sorted(payments.paid) == [(1,), (2,), (3,)]
    assert asyncio.run(stage()) == [one, one, one, two, three, three]
    assert len(payments.paid) == 3


def test_waiting_step_does_not_block_the_event_loop(ctx: Context) -> None:
    async def stage() -> str:
        ready = asyncio.Event()

        async def waits() -> str:
            await ready.wait()
            return "ready"

        async def sets() -> None:
            ready.set()

        first, _ = await asyncio.gather(ctx.step("waits", waits), ctx.step("sets", sets))
        return str(first)

    assert ctx.run_coroutine(stage()) == "ready"


def test_cancelled_task_leaves_the_event_loop_of_the_stage_usable(ctx: Context, payments: Payments) -> None:
    async def stage() -> Any:
        task = asyncio.ensure_future(ctx.step("pay", payments.pay_later, 1))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return await ctx.step("pay", payments.pay_later, 1)

    assert ctx.run_coroutine(stage()) == {"receipt": [1]}
    assert len(payments.paid) <= 1


def test_threads_with_the_same_step_call_it_once(ctx: Context, payments: Payments) -> None:
    async def stage() -> None:
        await asyncio.gather(*(asyncio.to_thread(ctx.step, "pay", payments.pay, 1) for _ in range(4)))

    ctx.run_coroutine(stage())
    assert payments.paid == [(1,)]


def test_steps_that_follow_each_other_share_an_event(attempt: Attempt, settings: Any) -> None:
    seen: list[tuple[str, bool, int]] = []

    def note(step: str, cached: bool, steps_completed: int, **_: Any) -> None:
        seen.append((step, cached, steps_completed))

    signals.stage_step_completed.connect(note)
    try:
        settings.MAHAVISHNU_ENGINE = EngineLimits(progress_interval_seconds=60)
        ctx = attempt.context()
        for number in range(3):
            ctx.step(f"{number}", int, number)
        assert seen == [("0", False, 1)]
        ctx.flush_progress()
        ctx.flush_progress()
        assert seen[1:] == [("2", False, 3)]
        settings.MAHAVISHNU_ENGINE = EngineLimits(progress_interval_seconds=0)
        ctx = attempt.context()
        for number in range(4):
            ctx.step(f"{number}", int, number)
    finally:
        signals.stage_step_completed.disconnect(note)
    assert seen[2:] == [("0", True, 1), ("1", True, 2), ("2", True, 3), ("3", False, 4)]


def test_arguments_without_json_numbers_can_be_compared(ctx: Context) -> None:
    assert ctx.step("count", lambda value: 1, math.inf) == ctx.step("count", lambda value: 2, math.inf) == 1
