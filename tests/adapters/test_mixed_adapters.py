"""Runs with functions and commands."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration.models import Stage
from orchestration.sdk import InvalidDefinition, WorkflowDefinition, adapter_of
from orchestration.testing import run_inline
from tests.jobs.commands import atomic_command, commands_and_functions, functions_and_commands

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

SHARED = ["print", "read_output", "say", "say[0]", "say[1]"]


@pytest.mark.parametrize("definition", [functions_and_commands, commands_and_functions], ids=lambda each: each.adapter)
def test_each_stage_is_run_by_its_adapter(definition: WorkflowDefinition) -> None:
    result = run_inline(definition, more=True)
    assert result.status == "completed", result.error
    stages = Stage.objects.filter(workflow=result.workflow_id)
    run_by = {stage.name: adapter_of(stage) for stage in stages.select_related("workflow")}
    assert run_by == {
        **dict.fromkeys(["print", "say", "say[0]", "say[1]", "more"], "command"),
        **dict.fromkeys(["read_output", "add_command"], "python"),
    }
    outputs: dict[str, Any] = {stage.name: (stage.result or {}).get("output") for stage in stages}
    assert outputs["read_output"] == ["one", "two"]
    assert [outputs[f"say[{index}]"]["stdout"] for index in (0, 1)] == ["said one\n", "said two\n"]
    assert outputs["more"]["stdout"] == "more\n"
    assert stages.get(name="add_command").status == "skipped"


@pytest.mark.parametrize("definition", [functions_and_commands, commands_and_functions], ids=lambda each: each.adapter)
def test_stages_that_a_function_adds_are_run_by_their_adapters(definition: WorkflowDefinition) -> None:
    result = run_inline(definition)
    assert result.status == "completed", result.error
    stages = {stage.name: stage for stage in Stage.objects.select_related("workflow").order_by("step")}
    assert stages["more"].status == "skipped"
    added = [(name, adapter_of(stage)) for name, stage in stages.items() if stage.added_by_id is not None]
    assert added == [("print_2", "command"), ("read_output_2", "python")]
    assert (stages["read_output_2"].result or {})["output"] == ["one", "two"]


def test_atomic_command_is_refused_in_a_workflow_of_functions() -> None:
    with pytest.raises(InvalidDefinition) as caught:
        atomic_command.start()
    assert str(caught.value).startswith("Stage echo is atomic, but what the adapter command runs is in no transaction")
