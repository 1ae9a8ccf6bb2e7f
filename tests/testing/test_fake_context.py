"""`fake_context`: one stage without a database."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from django.db.backends.base.base import BaseDatabaseWrapper

from orchestration.limits import EngineLimits
from orchestration.sdk import AnswerTimeout, Cancelled, HandOver, SignalTimeout, StageFailed, Suspended
from orchestration.services import InvalidAnswer
from orchestration.testing import FakeContext, StartedRun, fake_context
from tests.adapters.attempt_runner import claim_attempt
from tests.jobs import questions, trees
from tests.testing import shop


def test_stage_runs_with_a_fake_context_and_no_database() -> None:
    ctx = fake_context()
    assert shop.reserve.function is not None
    assert shop.reserve.function(ctx, {"prompt": "for Ada", "item": "coffee"}) == {
        "item": "coffee",
        "prompt": "for Ada",
    }
    assert (ctx.logs, ctx.progress_reports) == (["Reserving coffee"], [(0.5, "half")])


def test_coroutine_stage_runs_with_the_results_of_earlier_stages() -> None:
    ctx = fake_context(stage_name="pack", results={"reserve": {"item": "tea"}})
    assert ctx.run_coroutine(shop.pack(ctx, {})) == "a box with tea"
    assert ctx.logs == ["Packing"]


async def test_coroutine_stage_is_awaited_by_an_async_test() -> None:
    assert await shop.pack(fake_context(results={"reserve": {"item": "tea"}}), {}) == "a box with tea"


def test_fake_context_has_the_given_attempt() -> None:
    ctx = fake_context(workflow_id="wf_1", stage_name="load", attempt=3)
    assert (ctx.workflow_id, ctx.stage_name, ctx.attempt, ctx.idempotency_key) == ("wf_1", "load", 3, "wf_1/load")
    assert dict(ctx.results) == {}


def test_cancelled_context_stops_the_stage() -> None:
    ctx = fake_context()
    ctx.raise_if_cancelled()
    ctx.cancel()
    assert ctx.cancelled()
    with pytest.raises(Cancelled):
        ctx.raise_if_cancelled()
    assert fake_context(cancelled=True).cancelled()


def test_stage_of_a_stopping_worker_hands_over() -> None:
    ctx = fake_context()
    assert not ctx.stopping()
    with pytest.raises(RuntimeError, match="only if stopping"):
        ctx.hand_over()
    ctx.stop_worker()
    with pytest.raises(HandOver):
        ctx.hand_over()
    assert fake_context(stopping=True).stopping()


CALLS: dict[str, Callable[[FakeContext], Any]] = {
    "flush_progress": lambda ctx: ctx.flush_progress(),
    "hosted_completed": lambda ctx: ctx.hosted_completed("step", {"a": 1}),
    "hosted_failed": lambda ctx: ctx.hosted_failed("step", "It broke"),
    "hosted_started": lambda ctx: ctx.hosted_started("step"),
    "log": lambda ctx: ctx.log("One"),
    "progress": lambda ctx: ctx.progress(1, "done"),
    "run_coroutine": lambda ctx: ctx.run_coroutine(shop.pack(fake_context(results={"reserve": {"item": 1}}), {})),
    "run_in_db_thread": lambda ctx: ctx.run_in_db_thread(lambda: 1),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_no_report_of_a_fake_context_needs_a_database(
    call: Callable[[FakeContext], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A report that fails is dropped, so an exception alone would show nothing.
    uses: list[str] = []
    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", lambda self: uses.append(self.alias))
    ctx = fake_context()
    call(ctx)
    ctx.flush_progress()
    assert uses == []


class Speechless:
    def __str__(self) -> str:
        raise ValueError("no words")


@pytest.mark.django_db
def test_fake_context_records_what_a_real_one_stores(settings: Any) -> None:
    settings.MAHAVISHNU_LOG_REPEAT_SECONDS = 0
    settings.MAHAVISHNU_ENGINE = EngineLimits(max_log_message_characters=20, max_log_messages=6)
    attempt = claim_attempt(shop.rejected_order)
    real, fake = attempt.context(), fake_context()
    with attempt.recorded():
        for ctx in (real, fake):
            for message in (7, None, Speechless(), "\x00\ud800", "long" * 100, "last", "one too many"):
                ctx.log(message)
            for share in (0.25, "0.5", 2, -1, math.nan, "half", None):
                real._progress_sent_at = -math.inf  # Otherwise its throttle keeps only the last.
                ctx.progress(share, Speechless())  # type: ignore[arg-type]
    fake.progress(1)
    fake.progress(1, None)
    assert len(attempt.messages) == 6
    assert fake.logs == attempt.messages
    assert attempt.progress == [(share, "<Speechless>") for share in (0.25, 0.5, 1, 0)]
    assert fake.progress_reports == [*attempt.progress, (1, ""), (1, "")]


def test_fake_context_has_answers_and_signals() -> None:
    ctx = fake_context(
        answers={"size": 3, "go": SignalTimeout("go", 60)},
        signals={"paid": [{"amount": 1}, questions.Budget(amount=2)], "late": [TimeoutError()]},
    )
    assert ctx.ask("size", int) == 3
    with pytest.raises(AnswerTimeout, match="No answer to go within 60 s"):
        ctx.ask("go", questions.Approval, timeout_seconds=60)
    assert [ctx.wait_for("paid", questions.Budget).amount for _ in range(2)] == [1, 2]
    with pytest.raises(SignalTimeout):
        ctx.wait_for("late", timeout_seconds=1)
    with pytest.raises(Suspended):
        ctx.wait_for("paid")
    with pytest.raises(Suspended):
        ctx.ask("other")


def test_given_answer_must_fit_its_form() -> None:
    with pytest.raises(InvalidAnswer, match="int"):
        fake_context(answers={"size": "large"}).ask("size", int)


def test_started_sub_runs_are_recorded() -> None:
    ctx = fake_context(workflow_id="wf_1")
    first = ctx.start(trees.assess, "for Ada", number=1)
    second = ctx.start(trees.assess, key="b", pool="gpu", detached=True, number=2)
    assert (first.workflow_id, second.workflow_id) == ("wf_1.1", "wf_1.2")
    assert ctx.sub_runs == [
        StartedRun(name="assess", prompt="for Ada", key=None, pool=None, detached=False, params={"number": 1}),
        StartedRun(name="assess", prompt="", key="b", pool="gpu", detached=True, params={"number": 2}),
    ]
    with pytest.raises(StageFailed, match="expected another key"):
        ctx.start(trees.assess, key="b", number=3)
