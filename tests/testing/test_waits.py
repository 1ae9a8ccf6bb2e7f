"""Stages that wait for an answer, a signal or a time, in this process."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Final

import pytest
from django.test.utils import override_settings

from orchestration import services
from orchestration.models import Stage, Wait, Workflow
from orchestration.sdk import InvalidDefinition, Run
from orchestration.sdk.answer_links import InvalidLink, LinkExpired, read_link
from orchestration.testing import RunStuck, run_inline
from orchestration.testing.inline_worker import InlineWorker
from tests.jobs import questions
from tests.models.counter_audit import assert_all_add_up

# Runs are retried and answered: their stages are dispatched.
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.both_databases,
    pytest.mark.usefixtures("valkey"),
]


NO_BROKER: Final = "orchestration.testing.inline_worker.no_broker"


def start(definition: Any, **params: Any) -> Run:
    """Start a run whose stages do not run yet."""
    with override_settings(MAHAVISHNU_CELERY_APP=NO_BROKER):
        run: Run = definition.start("", **params)
    return run


def work(run: Run, **answers: Any) -> None:
    """Run the stages of a run, up to a wait without an answer."""
    worker = InlineWorker(run.workflow_id, answers=answers)
    with override_settings(MAHAVISHNU_CELERY_APP=NO_BROKER), worker.connected():
        worker.run_to_the_end()


def test_answer_is_the_output_of_the_stage_that_asks() -> None:
    result = run_inline(questions.deployment, "shop", version=7, answers={"approve": {"approved": True}})
    assert result.output == {"approved": True, "comment": "", "by": "test", "expired": False}
    wait = Wait.objects.get()
    assert (wait.status, wait.title, wait.recipient_list) == ("answered", "Deploy app:7 for shop?", ["group:ops"])
    assert wait.answer == {"approved": True, "comment": ""}
    assert wait.schema["properties"]["approved"] == {"type": "boolean"}
    names = [event.name for event in result.events]
    assert names.index("workflow.waiting") < names.index("workflow.wait_answered")
    assert_all_add_up()


def test_time_is_over_without_an_answer() -> None:
    result = run_inline(questions.deployment)
    assert result.output == {"approved": False, "comment": "", "by": "", "expired": True}
    assert Wait.objects.get().status == "expired"


def test_stage_without_an_answer_for_that_case_fails() -> None:
    result = run_inline(questions.unanswered)
    assert (result.status, result.error) == ("failed", "The stage go failed: No answer to go within 60 s")
    assert_all_add_up()


def test_run_that_asks_is_stuck_without_an_answer_and_a_time_limit() -> None:
    with pytest.raises(RunStuck):
        run_inline(questions.unanswered, timeout_seconds=None)


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("{build[image]} {{x}} {title}", "app:1 {x} {build[image]} {{x}} {title}"),
        ("{build}", '{"image": "app:1", "tags": ["a", "b"]}'),
        ("{build[tags][1]}", "b"),
        ("{build[tags][2]}", "title: there is no 2 for {build[tags][2]}"),
        ("{nothing}", "title: the run has no value nothing for {nothing}"),
    ],
)
def test_title_has_values_of_the_run(title: str, expected: str) -> None:
    result = run_inline(questions.unanswered, title=title, answers={"go": {"amount": 1}})
    found = Wait.objects.first()
    assert (found.title if found else result.error.removeprefix("The stage go failed: ")) == expected


def test_time_passes_without_a_slot() -> None:
    assert run_inline(questions.nap).output["image"] == "app:1"
    assert_all_add_up()


def test_signal_is_the_output_of_the_stage_that_waits_for_it() -> None:
    assert run_inline(questions.signalled, answers={"paid": {"amount": 5}}).output == {"amount": 5}
    assert run_inline(questions.signalled).output == {"amount": 0}


@pytest.mark.parametrize(
    ("answer", "path", "expected"),
    [
        ({"approved": "yes"}, "approved", "Expected `bool`, got `str`"),
        ({}, "", "Object missing required field `approved`"),
        ([], "", "Expected tests.jobs.questions.Approval"),
    ],
)
def test_answer_that_does_not_fit_its_form_is_refused(answer: Any, path: str, expected: str) -> None:
    with pytest.raises(services.InvalidAnswer) as refused:
        run_inline(questions.deployment, answers={"approve": answer})
    assert refused.value.path == path
    assert refused.value.expected.startswith(expected)


def test_answer_comes_before_the_question() -> None:
    run = start(questions.deployment)
    run.answer("approve", questions.Approval(approved=True, comment="early"), by="ada")
    with pytest.raises(services.AlreadyAnswered, match="was already answered by ada"):
        run.answer("approve", {"approved": False}, by="bob")
    work(run)
    assert (run.workflow.result or {})["final_output"] == {
        "approved": True,
        "comment": "early",
        "by": "ada",
        "expired": False,
    }


def test_waits_of_a_cancelled_run_are_closed_and_opened_again_by_a_retry() -> None:
    run = start(questions.two_questions)
    with pytest.raises(RunStuck):
        work(run)
    run.cancel()
    assert set(Wait.objects.values_list("status", flat=True)) == {"closed"}
    with pytest.raises(services.WaitClosed, match="accepts no answer: the workflow has status cancelled"):
        run.answer("first", {"amount": 1})
    run.retry()
    assert Wait.objects.count() == 0
    work(run, first={"amount": 1}, second={"amount": 2})
    assert Workflow.objects.get().status == "completed"
    assert list(Stage.objects.order_by("position").values_list("result__output__amount", flat=True)) == [1, 2, None]
    assert_all_add_up()


def test_second_answer_is_refused_and_names_who_came_first() -> None:
    run = start(questions.two_questions)
    with pytest.raises(RunStuck):
        work(run)
    run.answer("first", {"amount": 1}, by="ada")
    with pytest.raises(services.AlreadyAnswered) as refused:
        run.answer("first", {"amount": 2}, by="bob")
    assert refused.value.by == "ada"
    assert (Stage.objects.get(name="first").result or {})["output"] == {"amount": 1}


def test_stage_that_waits_inside_begins_again_and_keeps_its_steps(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    result = run_inline(questions.payments, journal=str(journal), answers={"paid": {"amount": 5}})
    assert result.output == {"order": 7, "first": 5, "second": {"amount": 5}, "attempt": 3}
    assert journal.read_text() == "order\n"
    stage = Stage.objects.get()
    assert (stage.attempt, stage.last_attempt, stage.failed_attempts.count()) == (3, 3, 0)
    assert_all_add_up()


def test_early_signals_are_used_without_another_attempt() -> None:
    run = start(questions.payments)
    run.signal("paid", {"amount": 1}, by="shop")
    run.signal("paid", {"amount": 2})
    work(run)
    output = (run.workflow.result or {})["final_output"]
    assert output == {"order": 7, "first": 1, "second": {"amount": 2}, "attempt": 1}


def test_early_signal_is_compared_with_the_form_of_the_stage_that_will_wait() -> None:
    run = start(questions.signalled)
    with pytest.raises(services.InvalidAnswer, match="The signal paid is not accepted"):
        run.signal("paid", {"garbage": True})
    run.signal("paid", {"amount": 5})
    work(run)
    assert (run.workflow.result or {})["final_output"] == {"amount": 5}


def test_signal_that_does_not_come_in_time_is_an_error_in_the_stage() -> None:
    result = run_inline(questions.payments, timeout_seconds=5)
    assert result.output == "No signal paid within 5 s"


def test_stage_waits_on_an_event_loop() -> None:
    assert run_inline(questions.payment_in_coroutine, answers={"paid": [1]}).output == [1]


def test_run_keeps_a_bounded_number_of_signals() -> None:
    run = start(questions.payments)
    for number in range(100):
        run.signal("paid", number)
    with pytest.raises(services.TooManyEarlyAnswers, match="has 100 signals and answers"):
        run.signal("paid", 100)


def test_link_answers_once_and_is_void_afterwards() -> None:
    run = start(questions.two_questions)
    with pytest.raises(services.WaitNotFound):
        run.answer_link("first")
    with pytest.raises(RunStuck):
        work(run)
    link = read_link(run.answer_link("first", by="ada").rpartition("/")[2])
    assert (link.name, link.by) == ("first", "ada")
    with pytest.raises(LinkExpired, match="The time of this answer link is over"):
        read_link(run.answer_link("first", valid_seconds=1e-6).rpartition("/")[2])
    with pytest.raises(InvalidLink, match="Unknown answer link"):
        read_link("eyJ3YWl0IjoxfQ:1:forged")
    run.cancel()
    run.retry()
    with pytest.raises(RunStuck):
        work(run)
    with pytest.raises(services.WaitClosed):
        services.answer_wait(workflow_id=run.workflow_id, name="first", answer={"amount": 1}, wait_id=link.wait_id)


@pytest.mark.parametrize("valid_seconds", [-1, 0, math.inf, math.nan, 366 * 86400])
def test_link_that_could_not_be_used_is_not_made(valid_seconds: float) -> None:
    run = Run("wf")
    with pytest.raises(InvalidDefinition) as refused:
        run.answer_link("first", valid_seconds=valid_seconds)
    expected = "expected a number of seconds above 0, at most 31536000"
    assert str(refused.value) == f"valid_seconds={valid_seconds!r}: {expected}"
    with pytest.raises(services.InvalidArgument, match=r"by is 'xxxx.*'; expected text of at most 200 characters"):
        run.answer_link("first", by="x" * 201)


def test_stage_asks_inside_of_its_function() -> None:
    result = run_inline(questions.asks_inside, answers={"size": 3, "go": {"approved": True}})
    assert result.output == {"size": 3, "approved": True, "attempt": 3}
    (size, go) = Wait.objects.order_by("pk")
    assert (size.title, size.schema, size.recipient_list) == ("How large is {it}?", {"type": "integer"}, ["user:ada"])
    assert (go.form, go.answer) == ("tests.jobs.questions:Approval", {"approved": True, "comment": ""})


def test_answer_inside_of_a_stage_that_does_not_come_in_time() -> None:
    result = run_inline(questions.asks_inside, answers={"size": 3})
    assert result.output == {"size": 3, "error": "No answer to go within 60 s"}


def test_stage_asks_each_question_once() -> None:
    result = run_inline(questions.asks_twice, answers={"size": 3})
    assert result.error == "The stage ask_again failed: The stage asks size twice; expected a name for each question"


def test_answer_that_does_not_fit_the_form_of_a_question_inside_of_a_stage_is_refused() -> None:
    run = start(questions.asks_inside)
    with pytest.raises(RunStuck):
        work(run)
    with pytest.raises(services.InvalidAnswer, match="int"):
        run.answer("size", "large")
    with pytest.raises(services.WaitNotFound):
        run.answer("go", {"approved": True})
    run.answer("size", 3)
    with pytest.raises(services.AlreadyAnswered):
        run.answer("size", 4)
