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
        (trees.deep, {"levels": 3}, "bottom"),
        (trees.mapped_runs, {}, [2, 4, 6]),
    ],
    ids=["step", "fan", "deep", "mapped"],
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
