"""`launch_by_name`: errors of workflow functions and of adapters, and parameter names."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest

from orchestration import services
from orchestration.models import Workflow
from orchestration.sdk import definitions, workflow
from orchestration.sdk.launch import LaunchError, launch_by_name
from orchestration.sdk.parameters import parameters_of

pytestmark = pytest.mark.django_db

FILE = Path(__file__).parent.parent / "jobs" / "broken.py"


def line_of(text: str) -> int:
    return FILE.read_text().splitlines().index(text) + 1


@pytest.mark.parametrize(
    ("name", "error", "line"),
    [
        ("fails_to_plan", "ValueError: No plan", '    raise ValueError("No plan")'),
        (
            "misleads_a_library",
            "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
            '    return json.loads("?")',
        ),
        ("leaves", "SystemExit: Nothing to do", '    sys.exit("Nothing to do")'),
    ],
)
def test_launch_error_names_the_exception_and_the_line_of_the_workflow_function(
    name: str, error: str, line: str
) -> None:
    from tests.jobs import broken  # noqa: F401

    with pytest.raises(LaunchError) as caught:
        launch_by_name(name, prompt="", params={})
    location = f"({FILE}, line {line_of(line)})"
    assert str(caught.value) == f"Cannot start {name}: its function raised {error} {location}"
    assert line.strip() in "".join(traceback.format_exception(caught.value))
    assert not Workflow.objects.exists()


def test_start_raises_the_exception_of_the_workflow_function_unchanged() -> None:
    from tests.jobs.broken import fails_to_plan

    with pytest.raises(ValueError, match="No plan"):
        fails_to_plan.start()


def test_launch_rejects_a_stage_of_another_adapter() -> None:
    from tests.jobs import broken  # noqa: F401

    with pytest.raises(LaunchError) as caught:
        launch_by_name("mixes_adapters", prompt="", params={})
    message = (
        "Stage true is not a function: expected stages made by @stage or command(…), or another adapter than python"
    )
    assert str(caught.value) == message
    assert not Workflow.objects.exists()


def test_all_job_modules_of_the_tests_can_be_imported_together() -> None:
    from tests.jobs import broken, commands, coroutines, flows, workflows  # noqa: F401

    assert {"fails_to_plan", "waiting_to_retry", "waiting_flow"} <= definitions().keys()


def test_launch_accepts_parameters_named_self_and_definition() -> None:
    from tests.jobs.workflows import one_empty_stage

    given = {"self": 1, "definition": 2}
    assert launch_by_name(one_empty_stage.name, prompt="", params=given).workflow.params == given


def test_key_of_a_workflow_whose_defaults_have_changed_returns_its_run() -> None:
    from tests.jobs.workflows import first

    def function(prompt: str, *, tags: set[str], count: int = 3) -> Any:
        return [first]

    tags = [f"tag {number}" for number in range(20)]
    definition = workflow(name="changes")(function)
    run = definition.start(key="k", tags=set(tags))
    assert run.workflow.params == {"tags": sorted(tags), "count": 3}

    def changed(prompt: str, *, tags: set[str], count: int = 4, colour: str = "red") -> Any:
        return [first]

    deployed = definition.with_function(changed)
    assert deployed.start(key="k", tags=set(tags)) == run
    with pytest.raises(services.KeyConflict, match="with count=3;"):
        deployed.start(key="k", tags=set(tags), count=4)


def test_launch_by_name_reads_the_signature_of_a_function_once() -> None:
    from tests.jobs import workflows  # noqa: F401

    launch_by_name("typed", prompt="", params={"count": 1})
    before = parameters_of.cache_info()
    launch_by_name("typed", prompt="", params={"count": 2})
    after = parameters_of.cache_info()
    assert (after.misses - before.misses, after.hits > before.hits) == (0, True)


def test_launch_with_an_empty_key_starts_a_run_each_time() -> None:
    from tests.jobs import workflows  # noqa: F401

    runs = [launch_by_name("typed", prompt="", params={"count": count}, key="") for count in (1, 2)]
    assert [run.workflow.params["count"] for run in runs] == [1, 2]


def test_launch_rejects_a_key_that_was_used_with_other_parameters() -> None:
    from tests.jobs import workflows  # noqa: F401

    run = launch_by_name("typed", prompt="", params={}, key="ticket-42")
    assert launch_by_name("typed", prompt="", params={"count": 3}, key="ticket-42") == run
    with pytest.raises(LaunchError, match=rf"^Key ticket-42 was used for workflow {run.workflow_id} with count=3; "):
        launch_by_name("typed", prompt="", params={"count": 4}, key="ticket-42")
