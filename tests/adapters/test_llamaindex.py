"""The adapter `llamaindex`, with real workflows of function steps and a model that needs no network."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness.waiting import wait_until

if TYPE_CHECKING:
    from tests.adapters.attempt_runner import Attempt

pytestmark = pytest.mark.django_db


def attempt_at(name: str, prompt: str = "", **params: Any) -> Attempt:
    from tests.adapters import attempt_runner
    from tests.jobs import flows

    return attempt_runner.attempt_at(getattr(flows, name), prompt, **params)


def failure_of(attempt: Attempt) -> Any:
    from orchestration.adapters import StageFailed

    with pytest.raises(StageFailed) as caught:
        attempt.run()
    return caught.value


def refusal_of(name: str, prompt: str = "") -> str:
    from orchestration.models import Workflow
    from orchestration.sdk import InvalidDefinition
    from tests.jobs import flows

    with pytest.raises(InvalidDefinition) as caught:
        getattr(flows, name).start(prompt)
    assert not Workflow.objects.exists()
    return str(caught.value)


def stages_of(attempt: Attempt) -> list[tuple[str, str, Any]]:
    stages = attempt.claim.workflow.stages.order_by("position")
    return [
        (stage.name, stage.status, None if stage.result is None else stage.result["output"]) for stage in stages.all()
    ]


def test_each_step_is_a_stage_and_one_more_runs_them_all() -> None:
    attempt = attempt_at("writer", "a story")
    stages = attempt.claim.workflow.stages.order_by("position")
    assert list(stages.values_list("name", "hosted", "status", "pool_id")) == [
        ("WriterFlow", False, "running", "attempts"),
        ("outline", True, "pending", None),
        ("write", True, "pending", None),
        ("review", True, "pending", None),
        ("apologise", True, "pending", None),
    ]


def test_stages_begin_and_end_as_their_steps_do_and_a_step_that_may_come_back_is_not_over() -> None:
    attempt = attempt_at("writer", "a story")
    output = attempt.run()
    assert output == {"text": "draft 2"}
    assert attempt.stages == [
        ("outline", "running"),
        ("write", "running"),
        ("outline", "completed"),
        ("review", "running"),
        ("write", "completed"),
        ("review", "completed"),
    ]
    assert attempt.messages == ["Rejected(text='draft 1')"]
    assert attempt.progress[-1] == (0.25, "review")
    attempt.complete(output)
    assert stages_of(attempt) == [
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


def test_what_follows_on_events_sent_by_hand_is_not_over_before_the_run_is() -> None:
    attempt = attempt_at("fan_out")
    assert attempt.run() == {"total": 3}
    assert attempt.stages == [
        ("split", "running"),
        ("work", "running"),
        ("split", "completed"),
        ("gather", "running"),
        ("work", "completed"),
        ("gather", "completed"),
    ]
    assert [output for _, _, output in stages_of(attempt)[1:]] == [
        {"runs": 1, "event": None},
        {"runs": 3, "event": "Done"},
        {"runs": 3, "event": "Summed"},
    ]


def test_a_step_that_the_library_tries_again_has_not_failed_and_one_that_fails_for_good_fails_the_run() -> None:
    attempt = attempt_at("unsteady")
    error = failure_of(attempt)
    assert str(error) == "ValueError: It fell"
    assert 'raise ValueError("It fell")' in error.details
    assert attempt.stages == [
        ("stumble", "running"),
        ("fall", "running"),
        ("stumble", "completed"),
        ("fall", "failed"),
    ]
    assert stages_of(attempt)[1] == ("stumble", "completed", {"runs": 2, "event": "Part"})
    assert attempt.claim.workflow.stages.get(name="fall").error == "ValueError: It fell"


def test_a_cancelled_run_cancels_its_steps() -> None:
    from orchestration.sdk.context import Cancelled

    attempt = attempt_at("patient_flow")

    def cancel_when_waiting() -> None:
        wait_until(lambda: attempt.stages == [("wait", "running")], timeout_seconds=60, what="the step")
        attempt.unwanted.set()

    cancelling = threading.Thread(target=cancel_when_waiting)
    cancelling.start()
    with pytest.raises(Cancelled):
        attempt.run()
    cancelling.join()
    assert not [thread for thread in threading.enumerate() if thread.name == "llamaindex"]


def test_the_limit_of_a_workflow_itself_holds() -> None:
    error = failure_of(attempt_at("patient_flow", timeout=0.2))
    assert str(error).startswith("WorkflowTimeoutError: Operation timed out after 0.2 seconds")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("asking", "The workflow asking waits for a person's answer: nobody could give it here"),
        ("broken", "The workflow broken cannot be run: The following events are consumed but never produced: Done"),
        ("no_flow", "The workflow no_flow returned ['a list']: expected a LlamaIndex Workflow, or its class"),
    ],
)
def test_what_cannot_be_run_is_refused_at_the_start(name: str, message: str) -> None:
    assert refusal_of(name) == message


def test_a_worker_with_other_code_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.jobs import flows

    attempt = attempt_at("changing")
    monkeypatch.setattr(flows, "current_flow", flows.PatientFlow)
    assert str(failure_of(attempt)) == (
        "The steps of FanOutFlow are wait on this worker; the run was started with split, work, gather: "
        "its code differs"
    )


def test_the_package_that_is_absent_is_named_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration.adapters import MissingDependency
    from tests.jobs import flows

    for name in [name for name in sys.modules if name.partition(".")[0] == "workflows"]:
        # This is how an import of a package that is not there ends.
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency) as caught:
        flows.fan_out.start()
    assert str(caught.value) == (
        "The adapter llamaindex needs llama-index-workflows, which is not installed: pip install llama-index-workflows"
    )
