"""Stages that run once for each value of a list, in this process."""

from __future__ import annotations

from typing import Any

import pytest

from orchestration import services
from orchestration.models import Stage, StageMap, Workflow
from orchestration.plan import Each, Plan, StagePlan
from orchestration.services import Slot
from orchestration.testing import run_inline
from orchestration.testing.inline_worker import InlineWorker
from tests.jobs import agents, secrets
from tests.models.counter_audit import assert_all_add_up, assert_workflows_add_up, counted, gauges, stored

# Runs are retried and answered: their stages are dispatched.
pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.both_databases,
    pytest.mark.usefixtures("valkey"),
]


@pytest.mark.parametrize("count", [0, 1, 3, 1201])
def test_stage_runs_once_for_each_value(count: int) -> None:
    result = run_inline(agents.mapped, count=count, limit=20)
    assert result.status == "completed"
    assert result.output == {"sum": sum(range(count)) * 2, "failed": 0, "errors": {}}
    workflow = Workflow.objects.get()
    assert (workflow.total_stages, workflow.stages_completed) == (3, 3)
    stage_map = StageMap.objects.get()
    assert (stage_map.total, stage_map.completed, stage_map.failed) == (count, count, 0)
    stored = Stage.objects.values_list("result__output", flat=True).get(name="double")
    assert stored == {"total": count, "completed": count, "failed": 0}
    assert_all_add_up()


def test_items_may_fail_as_often_as_allowed() -> None:
    result = run_inline(agents.mapped, count=10, broken=[2, 7], allow_failed=0.25)
    assert result.status == "completed"
    assert result.output["failed"] == 2
    assert result.output["errors"] == {"2": "ValueError: No 2", "7": "ValueError: No 7"}
    assert_all_add_up()


def test_run_fails_with_more_failed_items_than_allowed_and_its_items_are_cancelled() -> None:
    result = run_inline(agents.mapped, count=10, broken=[2, 4, 5], allow_failed=1)
    error = "The stage double failed: 2 of 10 items failed; at most 1 may. double[4]: ValueError: No 4"
    assert (result.status, result.error) == ("failed", error)
    statuses = list(Stage.objects.exclude(item_index=None).order_by("item_index").values_list("status", flat=True))
    assert statuses == ["completed"] * 2 + ["failed", "completed", "failed"] + ["cancelled"] * 5
    assert_all_add_up()


def run_again(workflow_id: str, **options: Any) -> str:
    services.retry_run(workflow_id=workflow_id, **options)
    return finish(workflow_id)


def finish(workflow_id: str) -> str:
    """Run what is queued, until the run ends. Return its status."""
    worker = InlineWorker(workflow_id)
    with worker.connected():
        worker.run_to_the_end()
    return Workflow.objects.get(pk=workflow_id).status


def attempts() -> list[int]:
    """Return how often each item was started."""
    return list(Stage.objects.exclude(item_index=None).order_by("item_index").values_list("attempt", flat=True))


def attempts_of_items() -> dict[str, list[int]]:
    """Return how often each item was started, by stage."""
    items = Stage.objects.exclude(item_index=None).order_by("item_of__name", "item_index")
    found: dict[str, list[int]] = {}
    for name, attempt in items.values_list("item_of__name", "attempt"):
        found.setdefault(name, []).append(attempt)
    return found


def test_retry_runs_the_items_that_failed_and_those_that_had_not_ended() -> None:
    result = run_inline(agents.mapped, count=6, limit=2, broken=[1, 3], allow_failed=1)
    assert (result.status, attempts()) == ("failed", [1, 1, 1, 1, 0, 0])
    Workflow.objects.update(params={"count": 6, "broken": []})
    assert run_again(result.workflow_id) == "completed"
    assert attempts() == [1, 2, 1, 2, 1, 1]
    output = Stage.objects.values_list("result__output", flat=True).get(name="total")
    assert output == {"sum": 30, "failed": 0, "errors": {}}
    assert_workflows_add_up()
    assert gauges(stored("local")) == gauges(counted("local"))


def test_skip_of_an_item_that_is_not_queued_brings_no_other() -> None:
    plan = Plan(name="map", adapter="python", stages=(StagePlan(name="m", step=0, each=Each(of="", limit=1)),))
    stage = services.start_run(plan, prompt="", params={}, pool_id="local", workflow_id="map").stages.get()
    slot = Slot(worker_id=services.join_pool(name="one", process="one", pool_id="local"), process="one")
    assert services.claim_stage(stage.pk, 1, slot=slot) is not None
    assert services.start_map(stage.pk, 1, slot=slot, values=[1, 2, 3, 4]).accepted
    for index in (1, 2):
        services.skip_stage(workflow_id="map", stage_name=f"m[{index}]")
    items = Stage.objects.exclude(item_index=None).order_by("item_index")
    assert list(items.values_list("status", flat=True)) == ["queued", "skipped", "skipped", "pending"]
    services.skip_stage(workflow_id="map", stage_name="m[0]")
    assert Stage.objects.get(name="m[3]").status == "queued"
    services.skip_stage(workflow_id="map", stage_name="m[3]")
    assert Workflow.objects.get().status == "completed"


def test_retry_leaves_a_stage_skipped_that_was_skipped_before_the_items() -> None:
    result = run_inline(agents.mapped_behind_a_skip, count=3, broken=[1])
    assert result.status == "failed"
    assert result.stages["unneeded"].status == "skipped"
    services.retry_run(workflow_id=result.workflow_id)
    statuses = dict(Stage.objects.values_list("name", "status"))
    assert (statuses["unneeded"], statuses["double"], statuses["double[1]"]) == ("skipped", "waiting", "queued")


def test_retry_from_a_stage_with_items_runs_all_of_them() -> None:
    result = run_inline(agents.mapped, count=4, broken=[1], allow_failed=1)
    assert result.status == "completed"
    assert run_again(result.workflow_id, from_stage="double") == "completed"
    assert attempts() == [1, 1, 1, 1]
    assert StageMap.objects.get().failed == 1
    assert run_again(result.workflow_id, from_stage="values") == "completed"
    assert_workflows_add_up()
    assert gauges(stored("local")) == gauges(counted("local"))


def test_retry_of_failed_items_keeps_the_others_and_runs_the_later_stages() -> None:
    result = run_inline(agents.mapped, count=4, broken=[1], allow_failed=1)
    assert (result.status, result.output["sum"]) == ("completed", 10)
    Workflow.objects.update(params={"count": 4, "broken": []})
    services.retry_run(workflow_id=result.workflow_id, from_stage="double", failed_items_only=True)
    statuses = dict(Stage.objects.order_by("pk").values_list("name", "status"))
    items = {"double[0]": "completed", "double[1]": "queued", "double[2]": "completed", "double[3]": "completed"}
    assert statuses == {"values": "completed", "double": "waiting", "total": "pending", **items}
    assert Workflow.objects.get().stages_completed == 1
    assert finish(result.workflow_id) == "completed"
    assert attempts() == [1, 2, 1, 1]
    total = Stage.objects.get(name="total")
    assert total.result is not None
    assert (total.attempt, total.result["output"]) == (2, {"sum": 12, "failed": 0, "errors": {}})
    assert_workflows_add_up()
    assert gauges(stored("local")) == gauges(counted("local"))


def test_retry_of_failed_items_keeps_those_of_its_step_and_none_of_later_steps() -> None:
    result = run_inline(agents.mapped_three_times, count=3, broken=[1])
    assert result.error == "The stage beside failed: 1 of 3 items failed; none may. beside[1]: ValueError: No 1"
    Workflow.objects.update(params={"count": 3, "broken": [0]})
    assert run_again(result.workflow_id, from_stage="double", failed_items_only=True) == "completed"
    assert attempts_of_items() == {"beside": [1, 2, 1], "double": [1, 2, 1], "later": [1, 1, 1]}
    result.run.retry(from_stage="later", failed_items_only=True)
    assert finish(result.workflow_id) == "completed"
    assert attempts_of_items() == {"beside": [1, 2, 1], "double": [1, 2, 1], "later": [2, 1, 1]}
    Workflow.objects.update(params={"count": 3, "broken": [2]})
    Stage.objects.filter(name="double[0]").update(status="failed")
    assert run_again(result.workflow_id, from_stage="double", failed_items_only=True) == "completed"
    assert attempts_of_items() == {"beside": [1, 2, 1], "double": [2, 2, 1], "later": [1, 1, 1]}
    assert_workflows_add_up()


@pytest.mark.parametrize(
    ("from_stage", "refused"),
    [
        ("total", "Stage {run}/total has no items; failed_items_only is for a stage that runs once for each value."),
        ("double", "No item of stage {run}/double has failed; without failed_items_only, all of them run again."),
        (None, "failed_items_only is True; expected from_stage too: the stage with these items."),
    ],
)
def test_retry_of_failed_items_is_refused_where_there_are_none(from_stage: str | None, refused: str) -> None:
    result = run_inline(agents.mapped, count=3)
    with pytest.raises(services.ServiceError) as error:
        result.run.retry(from_stage=from_stage, failed_items_only=True)
    assert str(error.value) == refused.format(run=result.workflow_id)
    assert Workflow.objects.get().status == "completed"


def test_items_do_not_run_with_a_mask_as_their_value() -> None:
    result = run_inline(secrets.mapping, api_key="a secret key")
    assert result.error == (
        "The stage use_each failed: each: the output of stage list_keys contains *** in place of a secret; "
        "expected values without secrets, which each item can take from its inputs"
    )
    assert list(Stage.objects.order_by("position").values_list("attempt", flat=True)) == [1, 1]
