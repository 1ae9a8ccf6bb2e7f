"""The output of a run whose last stages were skipped by hand."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pytest

from orchestration import services
from orchestration.models import Workflow
from orchestration.plan import Plan, StagePlan

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]

STEPS = (("plan",), ("left", "right"), ("review",))


def start_run() -> None:
    stages = tuple(StagePlan(name=name, step=step) for step, names in enumerate(STEPS) for name in names)
    plan = Plan(name="demo", adapter="python", stages=stages)
    services.start_run(plan, prompt="", params={}, pool_id="pool", workflow_id="wf")


def final_output(*, skipped: Collection[str]) -> Any:
    """Run all stages except the skipped ones, which are skipped before the first ends, and return the output."""
    start_run()
    for name in skipped:
        services.skip_stage(workflow_id="wf", stage_name=name)
    worker_id = services.join_pool(name="worker", process="process", pool_id="pool")
    slot = services.Slot(worker_id=worker_id, process="process")
    workflow = Workflow.objects.get()
    while (stage := workflow.stages.filter(status="queued").order_by("position").first()) is not None:
        assert services.claim_stage(stage.pk, 1, slot=slot) is not None
        assert services.complete_attempt(stage.pk, 1, slot=slot, output=f"output of {stage.name}")
    workflow.refresh_from_db()
    assert workflow.status == "completed"
    return (workflow.result or {})["final_output"]


@pytest.mark.parametrize(
    ("skipped", "output"),
    [
        ([], "output of review"),
        (["review"], {"left": "output of left", "right": "output of right"}),
        (["review", "left"], {"left": None, "right": "output of right"}),
        (["review", "left", "right"], "output of plan"),
    ],
)
def test_final_output_is_that_of_the_last_completed_step(skipped: list[str], output: Any) -> None:
    assert final_output(skipped=skipped) == output


@pytest.mark.parametrize(("completed", "output"), [(["plan"], "output of plan"), ([], None)])
def test_final_output_after_a_skipped_stage_is_that_of_an_earlier_step(completed: list[str], output: Any) -> None:
    start_run()
    workflow = Workflow.objects.get()
    for stage in workflow.stages.order_by("position"):
        if stage.name in completed:
            worker_id = services.join_pool(name="worker", process="process", pool_id="pool")
            slot = services.Slot(worker_id=worker_id, process="process")
            assert services.claim_stage(stage.pk, 1, slot=slot) is not None
            services.complete_attempt(stage.pk, 1, slot=slot, output=f"output of {stage.name}")
        else:
            services.skip_stage(workflow_id="wf", stage_name=stage.name)
    workflow.refresh_from_db()
    assert (workflow.status, (workflow.result or {})["final_output"]) == ("completed", output)
