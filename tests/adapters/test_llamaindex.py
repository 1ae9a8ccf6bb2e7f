"""The adapter `llamaindex`, with real workflows of function steps and a model that needs no network."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.adapters.command_runner import expect_failure
from tests.harness.waiting import wait_until

if TYPE_CHECKING:
    from tests.adapters.attempt_runner import Attempt

pytestmark = pytest.mark.django_db


def claim_flow(name: str, prompt: str = "", **params: Any) -> Attempt:
    from tests.adapters import attempt_runner
    from tests.jobs import flows

    return attempt_runner.claim_attempt(getattr(flows, name), prompt, **params)


def expect_invalid(name: str, prompt: str = "") -> str:
    from orchestration.models import Workflow
    from orchestration.sdk import InvalidDefinition
    from tests.jobs import flows

    with pytest.raises(InvalidDefinition) as caught:
        getattr(flows, name).start(prompt)
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
        ("asking", "Workflow asking waits for human input, which is not supported"),
        ("broken", "Workflow broken cannot run: The following events are consumed but never produced: Done"),
        ("no_flow", "Workflow no_flow returned ['a list']: expected a LlamaIndex Workflow, or its class"),
    ],
)
def test_flow_that_cannot_run_is_rejected_at_the_start(name: str, message: str) -> None:
    assert expect_invalid(name) == message


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
