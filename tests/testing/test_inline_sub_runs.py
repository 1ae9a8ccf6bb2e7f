"""Workflows with sub-runs, run inline."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration.models import Workflow
from orchestration.testing import run_inline
from tests.jobs import trees

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(
    ("definition", "params", "output"),
    [
        (trees.step_of_plan, {"number": 4}, {"model": {"number": 4}, "assess": 8}),
        (trees.fans, {"count": 3}, {"fan_out": [0, 2, 4]}),
        (trees.fans, {"count": 1}, {"fan_out": [0]}),
        (trees.fans, {"count": 0}, {"fan_out": []}),
        (trees.fans_in_order, {"order": [1, 0, 1]}, [2, 0, 2]),
        (trees.deep, {"levels": 3}, "bottom"),
        (trees.mapped_runs, {}, [2, 4, 6]),
    ],
    ids=["step", "fan", "fan of one", "fan of none", "run listed twice", "deep", "mapped"],
)
def test_output_of_sub_runs_is_the_output_of_the_stage(definition: Any, params: dict[str, Any], output: Any) -> None:
    result = run_inline(definition, **params)
    assert (result.status, result.error, result.output) == ("completed", "", output)
    assert not Workflow.objects.exclude(status="completed").exists()


def test_refused_sub_run_fails_the_stage_in_words() -> None:
    refused = run_inline(trees.bad_step).error
    assert refused.startswith("The stage assess failed: Cannot start assess: number is 'four'; expected int")
    error = "The stage go_down failed: The sub-run deep"
    result = run_inline(trees.deep, levels=20)
    assert result.error.startswith(error)
    assert result.error.count("MAHAVISHNU_MAX_SUB_RUN_DEPTH") == 1
    assert Workflow.objects.filter(root_id=result.workflow_id).count() == 8
    assert "has started assess already; expected another key" in run_inline(trees.starts_twice).error


EXPECTED_RUNS = "expected a run that ctx.start(…) returned, or a list of such runs"


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ("no list", f"WaitForRuns(NoneType): {EXPECTED_RUNS}"),
        ("no run", f"WaitForRuns([str, …]): {EXPECTED_RUNS}"),
        ("too many", "WaitForRuns(…) has more than 1000 runs; a stage may wait for 1000 at most"),
        ("allow_failed", "WaitForRuns(…, allow_failed=-1): expected a number of runs, 0 to 1000"),
        (
            "of another",
            "Workflow wf_1 is not a sub-run of this stage; expected a run that ctx.start(…) returned.",
        ),
        ("atomic", "A stage with atomic=True waits for no runs; expected an output"),
    ],
)
def test_wrong_wait_fails_the_stage_without_another_attempt(wrong: str, error: str) -> None:
    result = run_inline(trees.waits_wrongly, wrong=wrong)
    assert (result.status, result.error) == ("failed", f"The stage wait_wrongly failed: {error}")
    assert result.stages["wait_wrongly"].attempts == 1


def test_failed_run_that_is_listed_twice_counts_once() -> None:
    result = run_inline(trees.fans_in_order, order=[1, None, None], allow_failed=1)
    assert (result.status, result.error, result.output) == ("completed", "", [2, None, None])
