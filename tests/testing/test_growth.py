"""Runs whose stages add steps, and stages that are skipped, in this process."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from orchestration import services
from orchestration.limits import EngineLimits
from orchestration.models import Stage, Workflow
from orchestration.sdk import InvalidDefinition, Next, StageDefinition, parallel, stage, when
from orchestration.testing import run_inline
from orchestration.testing.inline_worker import InlineWorker
from tests.jobs import agents

# Runs are retried and answered: their stages are dispatched.
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.both_databases,
    pytest.mark.usefixtures("valkey"),
]


def layout(workflow_id: str) -> list[tuple[int, str, str]]:
    """Return step, name and status of each stage, in the order in which they run."""
    stages = Stage.objects.filter(workflow_id=workflow_id).order_by("step", "position")
    return list(stages.values_list("step", "name", "status"))


def run_again(workflow_id: str, from_stage: str | None) -> None:
    services.retry_run(workflow_id=workflow_id, from_stage=from_stage)
    worker = InlineWorker(workflow_id)
    with worker.connected():
        worker.run_to_the_end()


def test_each_turn_adds_the_next_one_before_the_later_steps() -> None:
    result = run_inline(agents.agent_loop, turns=3)
    assert result.status == "completed"
    notes = {"notes": ["turn 1", "turn 2", "turn 3"]}
    assert result.output == {"agent_turn": 1, "agent_turn_2": 2, "agent_turn_3": notes}
    assert layout(result.workflow_id) == [
        (0, "agent_turn", "completed"),
        (1, "agent_turn_2", "completed"),
        (2, "agent_turn_3", "completed"),
        (3, "report", "completed"),
    ]
    workflow = Workflow.objects.get()
    assert (workflow.total_stages, workflow.stages_completed) == (4, 4)
    added = [event for event in result.events if event.name == "workflow.stage_added"]
    shown = [(each.data["stage_name"], each.data["added_by"], each.data["moved_steps"]) for each in added]
    assert shown == [("agent_turn_2", "agent_turn", 1), ("agent_turn_3", "agent_turn_2", 1)]


def test_stages_of_one_step_share_the_steps_that_they_add() -> None:
    result = run_inline(agents.siblings)
    assert [(step, name) for step, name, _ in layout(result.workflow_id)] == [
        (0, "left"),
        (0, "right"),
        (1, "left_1"),
        (1, "right_1"),
        (2, "left_2"),
        (2, "right_2"),
        (2, "leaf"),
        (3, "right_3"),
        (4, "report"),
    ]
    assert result.output == dict.fromkeys(("left", "right")) | {
        name: name for name in ("left_1", "right_1", "left_2", "right_2", "leaf", "right_3")
    }


@pytest.mark.parametrize(
    ("amount", "statuses"),
    [(500, ["completed", "skipped", "completed", "skipped"]), (5, ["skipped", "completed", "skipped", "skipped"])],
)
def test_condition_decides_which_stage_is_skipped(amount: int, statuses: list[str]) -> None:
    result = run_inline(agents.branches, amount=amount)
    assert result.status == "completed"
    names = ["review", "book", "leaf", "unneeded"]
    assert [(name, status) for _, name, status in layout(result.workflow_id)] == list(zip(names, statuses, strict=True))
    reasons = {
        event.data["stage_name"]: event.data["reason"]
        for event in result.events
        if event.name == "workflow.stage_status_changed"
    }
    if amount == 500:
        assert reasons == {"book": "is_large returned a true value", "unneeded": "Nothing to do"}
    else:
        assert reasons == {
            "review": "is_large returned a false value",
            "leaf": "has_report returned a false value",
            "unneeded": "Nothing to do",
        }


def test_retry_from_a_stage_removes_what_it_had_added() -> None:
    result = run_inline(agents.agent_loop, turns=4)
    run_again(result.workflow_id, "agent_turn_2")
    assert [name for _, name, status in layout(result.workflow_id) if status == "completed"] == [
        "agent_turn",
        "agent_turn_2",
        "agent_turn_3",
        "agent_turn_4",
        "report",
    ]
    workflow = Workflow.objects.get()
    assert (workflow.status, workflow.total_stages, workflow.stages_completed) == ("completed", 5, 5)


def test_retry_of_a_failed_turn_keeps_the_turns_before() -> None:
    Failing.fails = True
    result = run_inline(agents.fan.with_function(_failing_plan), count=1)
    assert (result.status, [name for _, name, _ in layout(result.workflow_id)]) == (
        "failed",
        ["grow", "fail_once", "last"],
    )
    Failing.fails = False
    run_again(result.workflow_id, None)
    assert layout(result.workflow_id) == [
        (0, "grow", "completed"),
        (1, "fail_once", "completed"),
        (2, "last", "completed"),
    ]


class Failing:
    """Whether the stage fails."""

    fails = True


@stage
def grow(ctx: Any, inputs: Any) -> Any:
    return Next(fail_once)


@stage
def fail_once(ctx: Any, inputs: Any) -> str:
    if Failing.fails:
        raise ValueError("A test")
    return "done"


@stage
def last(ctx: Any, inputs: Any) -> None:
    return None


def _failing_plan(prompt: str, *, count: int) -> Any:
    return [grow, last]


def test_stage_that_adds_more_stages_than_a_run_may_have_fails() -> None:
    with override_settings(MAHAVISHNU_ENGINE=EngineLimits(max_run_stages=10)):
        result = run_inline(agents.fan, count=9)
    assert result.status == "failed"
    assert "would have 11 stages; at most 10 are allowed (MAHAVISHNU_MAX_RUN_STAGES)" in result.error
    assert [(name, status) for _, name, status in layout(result.workflow_id)] == [
        ("many", "failed"),
        ("report", "cancelled"),
    ]


def test_stage_that_adds_too_many_stages_at_once_fails_in_words() -> None:
    result = run_inline(agents.fan, count=101)
    assert "Next(…) has 101 stages: expected at most 100" in result.error


def _local_condition() -> Any:
    def condition(ctx: Any, inputs: Any) -> bool:
        return True

    return condition


@pytest.mark.parametrize(
    ("define", "message"),
    [
        (lambda: when(lambda ctx, inputs: True, agents.leaf), "is defined inside a function, where no worker"),
        (lambda: when(_local_condition(), agents.leaf), "is defined inside a function, where no worker"),
        (lambda: when(agents.is_large, agents.is_large), "expected a stage, made by @stage, or parallel"),  # type: ignore[arg-type]
        (lambda: when("is_large", agents.leaf), r"when\('is_large', …\): expected a module-level function"),  # type: ignore[arg-type]
        (
            lambda: when(agents.is_large, when(agents.is_large, agents.leaf)),
            "Stage leaf has a condition: expected one when",
        ),
        (Next, r"Next\(\) has no steps: expected at least one"),
        (lambda: agents.leaf.given(object()), "Arguments of stage leaf: expected a JSON object"),
        (lambda: Next(agents.leaf.named("x" * 129)), "has a stage named .*: expected text of at most 128 characters"),
        (lambda: agents.leaf.given(state=float("nan")), "Arguments of stage leaf: expected a JSON object"),
    ],
)
def test_unusable_definition_is_refused_in_words(define: Any, message: str) -> None:
    with pytest.raises(InvalidDefinition, match=message):
        define()


def test_arguments_are_stored_as_json() -> None:
    given = agents.leaf.given((1, 2), key={"a": None})
    assert isinstance(given, StageDefinition)
    assert (given.arguments.positional, dict(given.arguments.named)) == (([1, 2],), {"key": {"a": None}})
    assert parallel(given).stages[0].at_step(0).arguments == given.arguments
