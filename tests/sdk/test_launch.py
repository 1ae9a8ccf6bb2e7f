"""A workflow that a person asked for by its name, and that its own function keeps from being started."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from orchestration.models import Workflow
from orchestration.sdk import definitions
from orchestration.sdk.launch import LaunchError, launch_by_name

pytestmark = pytest.mark.django_db

FILE = Path(__file__).parent.parent / "jobs" / "broken.py"


def line_of(text: str) -> int:
    return FILE.read_text().splitlines().index(text) + 1


@pytest.mark.parametrize(
    ("name", "error", "line"),
    [
        ("fails_to_plan", "ValueError: There is no plan", '    raise ValueError("There is no plan")'),
        (
            "misleads_a_library",
            "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
            '    return json.loads("?")',
        ),
        ("leaves", "SystemExit: Nothing to do", '    sys.exit("Nothing to do")'),
    ],
)
def test_what_the_function_of_a_workflow_raises_is_told_with_its_place(name: str, error: str, line: str) -> None:
    from tests.jobs import broken  # noqa: F401

    with pytest.raises(LaunchError) as refusal:
        launch_by_name(name, prompt="", params={})
    place = f"({FILE}, line {line_of(line)})"
    assert str(refusal.value) == f"{name} cannot be started, its function failed: {error} {place}"
    assert line.strip() in "".join(traceback.format_exception(refusal.value))
    assert not Workflow.objects.exists()


def test_python_code_that_starts_it_gets_the_error_itself() -> None:
    from tests.jobs.broken import fails_to_plan

    with pytest.raises(ValueError, match="There is no plan"):
        fails_to_plan.start()


def test_a_stage_that_is_no_function_is_refused_at_the_start() -> None:
    from tests.jobs import broken  # noqa: F401

    with pytest.raises(LaunchError) as refusal:
        launch_by_name("mixes_adapters", prompt="", params={})
    words = "The stage true is no function: expected stages made by @stage, or another adapter than python"
    assert str(refusal.value) == words
    assert not Workflow.objects.exists()


def test_all_jobs_of_the_tests_can_be_there_at_once() -> None:
    from tests.jobs import broken, commands, coroutines, flows, workflows  # noqa: F401

    assert {"fails_to_plan", "patient", "patient_flow"} <= definitions().keys()


def test_no_name_of_a_parameter_is_taken_for_the_definition_itself() -> None:
    from tests.jobs.workflows import one_empty_stage

    given = {"self": 1, "definition": 2}
    assert launch_by_name(one_empty_stage.name, prompt="", params=given).workflow.params == given
