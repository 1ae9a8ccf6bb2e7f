"""Sub-runs: a stage starts them, waits for them, and ends with the last of them."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from orchestration import services
from orchestration.db.clock import database_now, milliseconds_between
from orchestration.models import Stage, Workflow
from orchestration.plan import Plan, StagePlan
from orchestration.scheduler import Scheduler
from tests.models.counter_audit import assert_all_add_up
from tests.services.broker_worker import BrokerWorker, take_messages
from tests.services.concurrency import run_concurrently
from tests.services.sub_run_trees import CHILD, stages, start_child, start_children, status_of

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey", "empty_tree_queues"),
]


def test_stage_waits_without_a_slot_and_ends_with_its_last_sub_run() -> None:
    _, (first, _last) = start_children(2)
    assert stages() == {"fan": "waiting", "end": "pending"}
    assert_all_add_up()
    worker = BrokerWorker(pool_id="children", name="children")
    assert worker.run_next() is not None
    assert stages() == {"fan": "waiting", "end": "pending"}
    assert worker.run_next() is not None
    assert stages() == {"fan": "completed", "end": "queued"}
    fan = Stage.objects.get(name="fan")
    assert fan.started_at is not None and fan.finished_at is not None
    duration_ms = milliseconds_between(fan.started_at, fan.finished_at)
    assert fan.result == {"output": [None, None], "duration_ms": duration_ms}
    child = Workflow.objects.get(pk=first)
    assert (child.parent_id, child.root_id, child.depth) == ("parent", "parent", 1)
    assert_all_add_up()


def test_outputs_of_sub_runs_keep_their_types() -> None:
    outputs = ["42", "null", '{"a": 1}', 1.5]
    for run_id, output in zip(start_children(len(outputs))[1], outputs, strict=True):
        services.complete_workflow(workflow_id=run_id, result={"final_output": output})
    assert (Stage.objects.get(name="fan").result or {})["output"] == outputs


def test_end_of_a_sub_run_reads_no_result_of_the_others_until_the_last() -> None:
    _, run_ids = start_children(3)
    reads = []
    for run_id in run_ids:
        with CaptureQueriesContext(connection) as captured:
            services.complete_workflow(workflow_id=run_id, result={"final_output": run_id})
        reads.append(sum('"result"' in each["sql"] and " IN (" in each["sql"] for each in captured))
    assert reads == [0, 0, 1]
    assert (Stage.objects.get(name="fan").result or {})["output"] == run_ids


def test_sub_runs_that_have_finished_before_end_the_stage_at_once() -> None:
    worker, (child,) = start_children(1, wait=False)
    assert BrokerWorker(pool_id="children", name="children").run_next() is not None
    assert status_of(child) == "completed"
    fan = Stage.objects.get(name="fan")
    services.wait_for_sub_runs(fan.pk, 1, slot=worker.slot, run_ids=[child])
    assert stages() == {"fan": "completed", "end": "queued"}
    assert_all_add_up()


@pytest.mark.parametrize("change", [services.cancel_workflow, services.time_out_workflow])
def test_failed_sub_run_fails_the_stage_in_words(change: Any) -> None:
    _, (child, other) = start_children(2)
    status = change(workflow_id=child).status
    parent = Workflow.objects.get(pk="parent")
    assert parent.status == "failed"
    assert parent.error.startswith(f"The stage fan failed: The sub-run child ({child}) has status {status}")
    assert stages() == {"fan": "failed", "end": "cancelled"}
    # The other sub-run is cancelled by a scheduler.
    assert status_of(other) == "running"
    assert Scheduler().cancel_sub_runs(database_now()) == 1
    assert Workflow.objects.get(pk=other).error == "Its parent parent has status failed"
    assert Scheduler().cancel_sub_runs(database_now()) == 0
    assert_all_add_up()


def test_sub_runs_may_fail_if_that_is_allowed() -> None:
    _, (first, second) = start_children(2, max_failed=1)
    services.cancel_workflow(workflow_id=first)
    assert stages()["fan"] == "waiting"
    services.complete_workflow(workflow_id=second)
    assert stages() == {"fan": "completed", "end": "queued"}


def test_sub_run_is_found_by_the_next_attempt_and_by_a_retry() -> None:
    worker, (child,) = start_children(1, wait=False)
    fan = Stage.objects.get(name="fan")
    services.release_attempt(fan.pk, 1, slot=worker.slot, error="It stopped")
    with pytest.raises(services.AttemptEnded):
        start_child(fan.pk, 1, name="0")
    assert worker.take() is not None
    assert start_child(fan.pk, 2, name="0").pk == child
    services.wait_for_sub_runs(fan.pk, 2, slot=worker.slot, run_ids=[child])
    services.fail_workflow(workflow_id=child, error="It broke")
    assert status_of() == "failed"
    # A retry of the sub-run alone wakes nothing.
    services.retry_run(workflow_id=child)
    services.complete_workflow(workflow_id=child)
    assert stages() == {"fan": "failed", "end": "cancelled"}
    services.retry_run(workflow_id=child, from_stage="work")
    services.fail_workflow(workflow_id=child, error="It broke again")
    assert stages() == {"fan": "failed", "end": "cancelled"}
    # A retry of the parent retries it.
    services.retry_run(workflow_id="parent")
    assert worker.take() is not None
    assert start_child(fan.pk, 3, name="0").status == "running"
    services.wait_for_sub_runs(fan.pk, 3, slot=worker.slot, run_ids=[child])
    services.complete_workflow(workflow_id=child)
    assert stages() == {"fan": "completed", "end": "queued"}
    # A completed stage that runs again starts another one.
    services.cancel_workflow(workflow_id="parent")
    services.retry_run(workflow_id="parent", from_stage="fan")
    take_messages("trees", at_most=1)
    claim = services.claim_stage(fan.pk, 4, slot=worker.slot)
    assert claim is not None
    assert start_child(fan.pk, 4, name="0").pk != child


def test_retry_from_an_earlier_stage_starts_another_sub_run() -> None:
    worker = BrokerWorker(pool_id="trees", name="parents")
    plan = Plan(
        name="parent", adapter="python", stages=(StagePlan(name="train", step=0), StagePlan(name="fan", step=1))
    )
    services.start_run(plan, prompt="", params={}, pool_id="trees", workflow_id="parent")
    assert worker.run_next() is not None
    claim = worker.take()
    assert claim is not None
    child = start_child(claim.stage.pk, 1, name="0").pk
    services.wait_for_sub_runs(claim.stage.pk, 1, slot=worker.slot, run_ids=[child])
    services.fail_workflow(workflow_id=child, error="It broke")
    # Its input is another one: the output of the stage that runs again.
    services.retry_run(workflow_id="parent", from_stage="train")
    assert worker.run_next() is not None
    again = worker.take()
    assert again is not None
    assert start_child(again.stage.pk, again.attempt, name="0").pk != child


def test_key_of_a_sub_run_is_none_that_a_start_can_have() -> None:
    _, (child,) = start_children(1, wait=False)
    stored = Workflow.objects.get(pk=child).key
    definition, _, key = stored.partition(":")
    plan = Plan(name=definition, adapter="python", stages=CHILD.stages)
    alone = services.start_run(plan, prompt="", params={}, pool_id="children", key=key)
    assert alone.pk != child and alone.key != stored


def test_stage_waits_only_for_its_own_sub_runs() -> None:
    worker, _ = start_children(0, wait=False)
    services.start_run(CHILD, prompt="", params={}, pool_id="children", workflow_id="alone")
    with pytest.raises(services.NotASubRun):
        services.wait_for_sub_runs(Stage.objects.get(name="fan").pk, 1, slot=worker.slot, run_ids=["alone"])


def test_waiting_run_is_not_stalled() -> None:
    start_children(1)
    assert not services.continue_stalled_run("parent")


def test_sub_runs_that_end_at_once_end_their_stage_once() -> None:
    _, run_ids = start_children(20)
    run_concurrently(*(lambda run_id=run_id: services.complete_workflow(workflow_id=run_id) for run_id in run_ids))
    assert {status_of(run_id) for run_id in run_ids} == {"completed"}
    assert stages() == {"fan": "completed", "end": "queued"}
    assert_all_add_up()


def test_lost_attempt_of_a_sub_run_has_ended_before_another_run_is_locked() -> None:
    _, run_ids = start_children(2)
    worker = BrokerWorker(pool_id="children", name="children")
    claim = worker.take()
    assert claim is not None
    (other,) = set(run_ids) - {claim.workflow.pk}
    Stage.objects.filter(pk=claim.stage.pk).update(lost_attempts=1000)
    seen: list[Any] = []

    def find_missing(stage: Stage) -> None:
        # What other transactions see: it is committed, so no lock of the parent is held.
        seen.extend(run_concurrently(status_of))

    found = Stage.objects.get(workflow_id=other)
    assert services.claim_stage(found.pk, 1, slot=worker.slot, find_missing=find_missing) is not None
    assert (seen, status_of(claim.workflow.pk), status_of(other)) == (["failed"], "failed", "running")
    assert_all_add_up()
