"""Workflow and stage definitions: how they are planned, and which are invalid."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import pytest

from orchestration.sdk import (
    InvalidDefinition,
    Plan,
    Retry,
    Run,
    StagePlan,
    UnknownWorkflow,
    find_definition,
    parallel,
    plan_stages,
    stage,
    workflow,
)
from orchestration.services import WorkflowNotFound


@stage
def one(ctx: Any, inputs: Any) -> None: ...


@stage(name="zwei", retries=Retry(max_attempts=3, backoff_seconds=2.0), timeout_seconds=60)
def two(ctx: Any, inputs: Any) -> None: ...


def test_planned_stages_have_their_step_and_survive_storage() -> None:
    here = __name__
    planned = plan_stages([one, parallel(two, one), two])
    assert planned == (
        StagePlan(name="one", step=0, call=f"{here}:one"),
        StagePlan(
            name="zwei",
            step=1,
            call=f"{here}:two",
            retries=Retry(max_attempts=3, backoff_seconds=2.0),
            timeout_seconds=60,
        ),
        StagePlan(name="one", step=1, call=f"{here}:one"),
        StagePlan(
            name="zwei",
            step=2,
            call=f"{here}:two",
            retries=Retry(max_attempts=3, backoff_seconds=2.0),
            timeout_seconds=60,
        ),
    )
    assert tuple(StagePlan.from_json(each.to_json()) for each in planned) == planned


def test_stage_plan_ignores_stored_fields_of_another_release() -> None:
    stored = {"name": "one", "step": 2, "retries": {"max_attempts": 2}, "colour": "blue"}
    assert StagePlan.from_json(stored) == StagePlan(name="one", step=2, retries=Retry(max_attempts=2))


def test_stage_plan_without_stored_retries_has_one_attempt() -> None:
    assert StagePlan.from_json({"name": "one", "step": 2}).retries == Retry(max_attempts=1)


def test_plan_is_stored_without_its_stages() -> None:
    plan = Plan(name="w", adapter="python", stages=plan_stages([one]), timeout_seconds=60)
    assert plan.to_json() == {"name": "w", "timeout_seconds": 60}


def test_least_and_greatest_values_are_accepted() -> None:
    seconds = [0, 0.001, 365 * 86400]
    for least_or_greatest in seconds:
        Retry(backoff_seconds=least_or_greatest, max_backoff_seconds=least_or_greatest)
    for timeout_seconds in seconds[1:]:
        Plan(
            name="w",
            adapter="python",
            stages=(StagePlan(name="one", step=0, timeout_seconds=timeout_seconds),),
            timeout_seconds=timeout_seconds,
        )
    Retry(max_attempts=1)
    Retry(max_attempts=1000)


def test_stage_without_options_is_tried_once_with_the_documented_waits() -> None:
    assert Retry() == Retry(max_attempts=1, backoff_seconds=1, max_backoff_seconds=300)
    stage_plan = StagePlan(name="one", step=0)
    assert stage_plan.to_json() == {
        "name": "one",
        "step": 0,
        "call": "",
        "options": {},
        "atomic": False,
        "retries": {"max_attempts": 1, "backoff_seconds": 1, "max_backoff_seconds": 300},
        "timeout_seconds": None,
        "hosted": False,
    }


def local_stage() -> Any:
    @stage
    def inner(ctx: Any, inputs: Any) -> None: ...

    return inner


INVALID: dict[str, tuple[Callable[[], Any], str]] = {
    "no attempt": (lambda: Retry(max_attempts=0), "max_attempts=0: expected a whole number from 1 to 1000"),
    "half an attempt": (lambda: Retry(max_attempts=1.5), "max_attempts=1.5: expected"),  # type: ignore[arg-type]
    "a negative wait": (lambda: Retry(backoff_seconds=-1), "backoff_seconds=-1: expected a number of seconds from 0"),
    "no time": (lambda: stage(timeout_seconds=0)(print), "timeout_seconds=0: expected a number of seconds above 0"),
    "too many attempts": (
        lambda: Retry(max_attempts=1001),
        "^max_attempts=1001: expected a whole number from 1 to 1000$",
    ),
    "true as attempts": (lambda: Retry(max_attempts=True), "^max_attempts=True: expected"),
    "a negative longest wait": (
        lambda: Retry(max_backoff_seconds=-1),
        "^max_backoff_seconds=-1: expected a number of seconds from 0 to 31536000$",
    ),
    "no time for a stage": (
        lambda: StagePlan(name="one", step=0, timeout_seconds=0),
        "^timeout_seconds=0: expected a number of seconds above 0, at most 31536000$",
    ),
    "no time for a workflow": (
        lambda: Plan(name="w", adapter="python", stages=plan_stages([one]), timeout_seconds=0),
        "^timeout_seconds=0: expected a number of seconds above 0, at most 31536000$",
    ),
    "more than a year": (lambda: stage(timeout_seconds=31536001)(print), "^timeout_seconds=31536001: expected"),
    "not a number": (lambda: stage(timeout_seconds=math.nan)(print), "^timeout_seconds=nan: expected"),
    "true as a time": (lambda: stage(timeout_seconds=True)(print), "^timeout_seconds=True: expected"),
    "a text as a time": (
        lambda: StagePlan(name="one", step=0, timeout_seconds="60"),  # type: ignore[arg-type]
        "^timeout_seconds='60': expected",
    ),
    "a nested function": (local_stage, "is defined inside a function, where no worker can find it"),
    "nothing side by side": (lambda: parallel(), r"parallel\(\) has no stages"),
    "a name that cannot be stored": (
        lambda: workflow(name="half a pair: \ud800"),
        "^name='half a pair: .*': expected text of at most 128 characters, without NUL or half a surrogate pair$",
    ),
    "a name that is too long": (lambda: workflow(name="n" * 129), "^name='n+[.]{3}n+': expected text of at most 128"),
    "a name twice": (
        lambda: Plan(name="w", adapter="python", stages=plan_stages([one, one])),
        "several stages named one",
    ),
    "two names twice": (
        lambda: Plan(name="w", adapter="python", stages=tuple(StagePlan(name=name, step=0) for name in "cbabc")),
        "^Workflow w has several stages named b, c: expected each name once$",
    ),
    "hosted stages only": (
        lambda: Plan(name="w", adapter="python", stages=(StagePlan(name="one", step=0, hosted=True),)),
        "^Workflow w has no stages: expected at least one$",
    ),
    "no stage": (lambda: Plan(name="w", adapter="python", stages=()), "Workflow w has no stages"),
    "a function": (lambda: plan_stages([len]), "Step 1 is <built-in function len>: expected a stage"),  # type: ignore[list-item]
    "no list": (lambda: plan_stages(one), "expected a list of stages"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("define", "reason"), INVALID.values(), ids=INVALID)
def test_invalid_definition_is_rejected_when_it_is_made(define: Callable[[], Any], reason: str) -> None:
    with pytest.raises(InvalidDefinition, match=reason):
        define()


def test_plan_of_thirty_thousand_stages_takes_linear_time() -> None:
    stages = tuple(StagePlan(name=f"stage {number}", step=0) for number in range(30_000))
    began = time.process_time()
    assert len(Plan(name="w", adapter="python", stages=stages).stages) == 30_000
    assert time.process_time() - began < 5, "each name is compared with all others"


def test_find_definition_raises_for_an_unknown_name() -> None:
    with pytest.raises(UnknownWorkflow, match=r"^Workflow no_such not found\. Defined workflows: "):
        find_definition("no_such")


@pytest.mark.django_db
@pytest.mark.parametrize("method", [Run.wait, Run.cancel, Run.retry, lambda run: run.workflow])
def test_run_methods_raise_for_an_unknown_id(method: Callable[[Run], Any]) -> None:
    with pytest.raises(WorkflowNotFound, match=r"^Workflow wf_nowhere not found\.$"):
        method(Run("wf_nowhere"))


@pytest.mark.parametrize(
    ("attempt", "jitter", "seconds"), [(1, 0, 2), (2, 0, 4), (3, 0, 8), (5, 0, 10), (3, 1, 4), (900, 0.5, 7.5)]
)
def test_retry_wait_doubles_up_to_its_maximum_and_jitter_takes_off_up_to_half(
    attempt: int, jitter: float, seconds: float
) -> None:
    retry = Retry(max_attempts=1000, backoff_seconds=2, max_backoff_seconds=10)
    assert retry.wait_seconds(attempt, jitter=jitter) == seconds
