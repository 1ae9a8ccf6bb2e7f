"""The examples of `docs/workflows.md` run as printed."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any
from unittest.mock import Mock, call

import pytest

from tests.docs.markdown import blocks, page, table

PAGE = page("docs/workflows.md")

pytestmark = pytest.mark.django_db


@pytest.fixture
def load_example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Provide a loader that makes a module of the first Python block of a section, like a `workflows.py`."""
    from orchestration.sdk import registry

    monkeypatch.setattr(registry, "_definitions", dict(registry.definitions()))

    def load(section: str, name: str = "shown_workflows") -> Any:
        block = next(block for block in blocks(PAGE, language="python") if block.section == section)
        module = ModuleType(name)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(block.text, block.where, "exec"), module.__dict__)
        return module

    return load


def stages_of(run: Any) -> list[tuple[int, str, float | None]]:
    stages = run.workflow.stages.order_by("position")
    return [(stage.step, stage.name, stage.plan["timeout_seconds"]) for stage in stages]


def test_documented_workflow_runs(load_example: Any) -> None:
    from tests.adapters.attempt_runner import claim_attempt

    attempt = claim_attempt(load_example("Define one").write_code, "a parser")
    assert attempt.run() == {"parts": ["a", "parser"]}
    run_stages = attempt.claim.workflow.stages.order_by("position").values_list("step", "name", "last_attempt")
    assert list(run_stages) == [(0, "plan", 1), (1, "generate", 3), (1, "lint", 1)]


def test_documented_tests_pass(load_example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.workflows", load_example("Define one"))
    shown = load_example("Test a workflow", name="shown_tests")
    tests = [function for name, function in vars(shown).items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        test()


@pytest.mark.parametrize(("turns", "last"), [(2, "publish"), (6, "summarize")])
def test_documented_plan_grows(load_example: Any, turns: int, last: str) -> None:
    from orchestration.testing import run_inline

    result = run_inline(load_example("Plans that grow").agent, "a poem", turns=turns)
    names = ["agent_turn", *(f"agent_turn_{number}" for number in range(2, turns + 1))]
    assert result.output == [*names, *(["summarize"] if last == "summarize" else [])]
    assert result.stages[names[-1]].output == [f"turn {number} of a poem" for number in range(1, turns + 1)]


def test_documented_stage_runs_once_for_each_value(load_example: Any) -> None:
    from orchestration.testing import run_inline

    result = run_inline(load_example("One stage for many values").ingest, "a")
    assert result.output == {"files": 400, "failed": 0, "size": sum(len(f"a/{number}.txt") for number in range(400))}


def test_documented_stages_run_in_their_pools(load_example: Any) -> None:
    from orchestration.models import Stage
    from orchestration.testing import run_inline

    result = run_inline(load_example("Pools of stages").training)
    assert result.output == {"trained_on": ["part_1.mp4", "part_2.mp4"]}
    stages = Stage.objects.order_by("position").values_list("name", "pool_id")
    assert list(stages) == [("prepare", "cpu"), ("encode", "gpu"), ("train", "gpu"), ("report", "cpu")]


def test_documented_sub_runs_give_their_outputs(load_example: Any) -> None:
    from orchestration.testing import run_inline

    example = load_example("Sub-runs")
    result = run_inline(example.select)
    assert result.output == "medium"
    assert result.stages["compare"].output == [{"model": "medium", "score": 6}, {"model": "large", "score": 5}]


@pytest.mark.parametrize("approved", [True, False])
def test_documented_question_is_answered(load_example: Any, approved: bool) -> None:
    from orchestration.testing import run_inline

    result = run_inline(load_example("Waiting").release, answers={"approve": {"approved": approved}})
    assert result.output == f"{approved}, says test"


def test_documented_parameters_are_checked_and_reach_the_stages(load_example: Any) -> None:
    from orchestration.sdk import InvalidParameter
    from tests.adapters.attempt_runner import claim_attempt

    report = load_example("Parameters").report
    assert claim_attempt(report, folder="/srv", days=1).run() == "1 days of eu in /srv"
    with pytest.raises(InvalidParameter, match="days is 0; expected "):
        report.start(folder="/srv", days=0)


def test_documented_commands_are_planned(load_example: Any) -> None:
    run = load_example("Commands").check.start(revision="main")
    assert stages_of(run) == [(0, "git", None), (1, "lint", None), (1, "test", 610.0)]


def test_demonstration_table_lists_every_demonstration() -> None:
    from orchestration.sdk import definitions

    rows = table(PAGE, first="Workflow")
    ours = {name for name, each in definitions().items() if each.function.__module__ == "demonstrations.workflows"}
    assert {row["Workflow"] for row in rows} == ours


def test_documented_steps_are_not_repeated(load_example: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration.testing import WorkerLost, run_inline

    models = ModuleType("shop.models")
    find_order, ask = Mock(return_value="A bike"), Mock(side_effect=["Which?", WorkerLost, "Why?", "Done"])
    vars(models).update(find_order=find_order, ask=ask)
    monkeypatch.setitem(sys.modules, "shop", ModuleType("shop"))
    monkeypatch.setitem(sys.modules, "shop.models", models)
    result = run_inline(load_example("Steps").support, "Where is it?", order_id=7)
    assert (result.output, result.stages["answer"].attempts) == ("Done", 2)
    first = "Where is it? Order: A bike"
    assert find_order.mock_calls == [call(7)]
    assert ask.mock_calls == [
        call([first]),
        call([first, "Which?"]),
        call([first, "Which?"]),
        call([first, "Which?", "Why?"]),
    ]


def test_documented_atomic_stage_stores_its_row(load_example: Any) -> None:
    from django.contrib.auth.models import Group

    from orchestration.testing import run_inline

    result = run_inline(load_example("Atomic stages").booking, "Guests")
    assert (result.output, result.logs) == (Group.objects.get().pk, ("Created Guests",))
