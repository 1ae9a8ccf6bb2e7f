"""The adapter `llamaindex`, with real workflows of function steps and a model that needs no network."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.adapters.command_runner import expect_failure
from tests.harness.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from orchestration.testing.result import InlineResult
    from tests.adapters.attempt_runner import Attempt

pytestmark = pytest.mark.django_db


def claim_flow(name: str, prompt: str = "", **params: Any) -> Attempt:
    from tests.adapters import attempt_runner
    from tests.jobs import flows

    return attempt_runner.claim_attempt(getattr(flows, name), prompt, **params)


def run_flow(name: str, *, answers: dict[str, Any] | None = None, **params: Any) -> InlineResult:
    from orchestration.testing import run_inline
    from tests.jobs import asking_flows

    return run_inline(getattr(asking_flows, name), answers=answers, **params)


def stored_waits() -> list[tuple[str, str, str, Any, Any]]:
    from orchestration.models import Wait

    return list(Wait.objects.order_by("pk").values_list("name", "status", "title", "schema", "answer"))


def expect_invalid(name: str, prompt: str = "") -> str:
    from orchestration.models import Workflow
    from orchestration.sdk import InvalidDefinition
    from tests.jobs import asking_flows, flows

    definition = getattr(flows, name, None) or getattr(asking_flows, name)
    with pytest.raises(InvalidDefinition) as caught:
        definition.start(prompt)
    assert not Workflow.objects.exists()
    return str(caught.value)


def stored_stages(attempt: Attempt) -> list[tuple[str, str, Any]]:
    stages = attempt.claim.workflow.stages.order_by("position")
    return [
        (stage.name, stage.status, None if stage.result is None else stage.result["output"]) for stage in stages.all()
    ]


def test_flow_plans_one_stage_for_itself_and_a_hosted_stage_for_each_step() -> None:
    attempt = claim_flow("writer", "a story")
    stages = attempt.claim.workflow.stages.order_by("position")
    assert list(stages.values_list("name", "hosted", "status", "pool_id")) == [
        ("WriterFlow", False, "running", "attempts"),
        ("outline", True, "pending", None),
        ("write", True, "pending", None),
        ("review", True, "pending", None),
        ("apologise", True, "pending", None),
    ]


def test_steps_start_as_stages_and_complete_at_the_end_of_the_run() -> None:
    attempt = claim_flow("writer", "a story")
    output = attempt.run()
    assert output == {"text": "draft 2"}
    assert attempt.stages == [
        ("outline", "running"),
        ("write", "running"),
        ("review", "running"),
        ("outline", "completed"),
        ("write", "completed"),
        ("review", "completed"),
    ]
    assert attempt.messages == ["Rejected(text='draft 1')"]
    assert attempt.progress[-1] == (0.75, "")
    attempt.complete(output)
    assert stored_stages(attempt) == [
        ("WriterFlow", "completed", {"text": "draft 2"}),
        ("outline", "completed", {"runs": 1, "event": "Outlined"}),
        ("write", "completed", {"runs": 2, "event": "Written"}),
        ("review", "completed", {"runs": 2, "event": "StopEvent"}),
        ("apologise", "skipped", None),
    ]
    workflow = attempt.claim.workflow
    workflow.refresh_from_db()
    assert (workflow.status, workflow.total_stages, workflow.stages_completed) == ("completed", 5, 4)
    assert workflow.result is not None
    assert workflow.result["final_output"] == {"text": "draft 2"}


def test_steps_of_sent_events_complete_at_the_end_of_the_run() -> None:
    attempt = claim_flow("fan_out")
    assert attempt.run() == {"total": 3}
    assert attempt.stages == [
        ("split", "running"),
        ("work", "running"),
        ("gather", "running"),
        ("split", "completed"),
        ("work", "completed"),
        ("gather", "completed"),
    ]
    assert [output for _, _, output in stored_stages(attempt)[1:]] == [
        {"runs": 1, "event": None},
        {"runs": 3, "event": "Done"},
        {"runs": 3, "event": "Summed"},
    ]


def test_step_retried_by_the_library_completes_and_a_failed_step_fails_the_run() -> None:
    attempt = claim_flow("unsteady")
    error = expect_failure(attempt)
    assert str(error) == "ValueError: It fell"
    assert 'raise ValueError("It fell")' in error.details
    assert attempt.stages == [
        ("stumble", "running"),
        ("fall", "running"),
        ("fall", "failed"),
        ("stumble", "completed"),
    ]
    assert stored_stages(attempt)[1] == ("stumble", "completed", {"runs": 2, "event": "Part"})
    assert attempt.claim.workflow.stages.get(name="fall").error == "ValueError: It fell"


def test_step_duration_ends_with_its_last_return() -> None:
    attempt = claim_flow("two_speeds")
    attempt.run()
    stages = attempt.claim.workflow.stages
    quick, slow = (stages.get(name=name).duration_ms for name in ("quick", "slow"))
    assert quick is not None
    assert slow is not None
    assert quick < slow


def test_cancelled_run_cancels_its_steps() -> None:
    from orchestration.sdk import Cancelled

    attempt = claim_flow("waiting_flow")

    def cancel_when_waiting() -> None:
        wait_until(lambda: attempt.stages == [("wait", "running")], timeout_seconds=60, what="the step")
        attempt.cancelled.set()

    cancelling = threading.Thread(target=cancel_when_waiting)
    cancelling.start()
    with pytest.raises(Cancelled):
        attempt.run()
    cancelling.join()
    assert not [thread for thread in threading.enumerate() if thread.name == "llamaindex"]


def test_flow_timeout_fails_the_run() -> None:
    error = expect_failure(claim_flow("waiting_flow", timeout=0.2))
    assert str(error).startswith("WorkflowTimeoutError: Operation timed out after 0.2 seconds")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "hidden_response",
            "Workflow hidden_response cannot ask people: Form make.<locals>.Hidden is defined inside a function, where "
            "no other process can find it: expected a module-level class",
        ),
        ("broken", "Workflow broken cannot run: The following events are consumed but never produced: Done"),
        ("no_flow", "Workflow no_flow returned ['a list']: expected a LlamaIndex Workflow, or its class"),
    ],
)
def test_flow_that_cannot_run_is_rejected_at_the_start(name: str, message: str) -> None:
    assert expect_invalid(name) == message


def test_person_answers_with_a_text() -> None:
    result = run_flow("asking", answers={"question-1": "Ada"})
    assert (result.status, [event.name for event in result.events].count("workflow.waiting")) == ("completed", 1)
    assert stored_waits() == [("question-1", "answered", "", {"type": "string"}, "Ada")]


def test_workflow_continues_with_its_stored_context_after_each_answer(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    approval = {"approved": True}
    result = run_flow("deploys", answers={"question-1": "Ada", "question-2": approval}, journal=str(journal))
    assert result.output == {"image": "app:7", "name": "Ada", "approved": True}
    assert journal.read_text().splitlines() == ["build", "named Ada"]
    (_, _, first, text, _), (_, _, second, form, answer) = stored_waits()
    assert (first, second) == ("Who deploys?", "May Ada deploy app:7?")
    assert (text["type"], form["properties"]["approved"]["type"], form["required"]) == (
        "string",
        "boolean",
        ["approved"],
    )
    assert answer == {"approved": True, "comment": ""}
    waiting = [event for event in result.events if event.name == "workflow.waiting"]
    assert [event.data["stage_name"] for event in waiting] == ["DeployFlow", "DeployFlow"]
    outputs = {name: stage.output for name, stage in result.stages.items() if name != "DeployFlow"}
    assert outputs == {
        "build": {"runs": 1, "event": "InputRequiredEvent"},
        "named": {"runs": 1, "event": "Named"},
        "deploy": {"runs": 2, "event": "StopEvent"},
    }


def test_answer_that_does_not_fit_the_event_is_refused(tmp_path: Path) -> None:
    from orchestration.services import InvalidAnswer

    answers = {"question-1": "Ada", "question-2": {"approved": "perhaps"}}
    with pytest.raises(InvalidAnswer, match="approved"):
        run_flow("deploys", answers=answers, journal=str(tmp_path / "journal"))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "ambiguous",
            "InputRequiredEvent may be answered by Approval, OtherResponse: expected a class attribute response_event "
            "with one of them",
        ),
        ("waits_for_event", "The workflow waits for an event, and has asked no person for it"),
    ],
)
def test_flow_whose_question_has_no_clear_answer_fails(name: str, message: str) -> None:
    result = run_flow(name)
    assert (result.status, result.error.endswith(f" failed: {message}")) == ("failed", True), result.error


def test_flow_with_a_secret_in_its_context_fails_when_it_asks() -> None:
    result = run_flow("asking_with_a_key", answers={"question-1": "yes"}, api_key="s3cr3t-value", keeps=True)
    assert "The context of the workflow contains a secret, and cannot be stored while it waits" in result.error
    assert "s3cr3t-value" not in result.error


def test_flow_whose_context_is_not_json_fails_when_it_asks() -> None:
    result = run_flow("unstorable")
    assert "The context of the workflow cannot be stored while it waits for an answer: " in result.error


@pytest.mark.parametrize(
    ("current", "reason"),
    [
        ("WaitingFlow", "its steps are wait"),
        ("workflow", "Workflow FanOutFlow returned {}: expected a LlamaIndex Workflow, or its class"),
    ],
)
def test_flow_that_differs_on_the_worker_is_missing(monkeypatch: pytest.MonkeyPatch, current: str, reason: str) -> None:
    from orchestration.sdk import MissingRequirement
    from tests.jobs import flows

    attempt = claim_flow("changing")
    other = getattr(flows, current)
    monkeypatch.setattr(flows, "current_flow", other)
    with pytest.raises(MissingRequirement) as caught:
        attempt.run()
    assert caught.value.name == "tests.jobs.flows:changing with the steps split, work, gather"
    assert caught.value.reason == reason.format(other)


def test_flow_whose_parameters_differ_on_the_worker_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration.sdk import MissingRequirement
    from orchestration.sdk.parameters import parameters_of
    from tests.jobs import flows

    attempt = claim_flow("waiting_flow", timeout=0.2)
    monkeypatch.setitem(flows.waiting_flow.function.__annotations__, "timeout", bool)
    parameters_of.cache_clear()
    with pytest.raises(MissingRequirement, match=r"timeout is 0\.2; expected bool"):
        attempt.run()
    parameters_of.cache_clear()


def test_missing_package_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration.sdk import MissingDependency, StagePlan, find_adapter
    from tests.jobs import flows

    for name in [name for name in sys.modules if name.partition(".")[0] == "workflows"]:
        # An import of this module raises ImportError then, as for a package that is not installed.
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency) as caught:
        flows.fan_out.start()
    stage = StagePlan(name="FanOutFlow", step=0, call="tests.jobs.flows:fan_out")
    assert find_adapter("llamaindex").find_missing(stage, may_block=False) is None  # type: ignore[attr-defined]
    with pytest.raises(MissingDependency):
        find_adapter("llamaindex").find_missing(stage, may_block=True)  # type: ignore[attr-defined]
    assert str(caught.value) == (
        "Adapter llamaindex needs llama-index-workflows, which is not installed: pip install llama-index-workflows"
    )
