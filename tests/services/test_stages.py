"""Stages: queued, started, and brought to an end."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestration import services
from orchestration.models import Pool, Stage, StageStatus, Workflow, WorkflowStatus
from tests.models.counter_audit import assert_all_add_up
from tests.services.builders import pool_with, stage_with, worker_with, workflow_with
from tests.services.signal_recorder import RecordedSignal

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

NOON = datetime(2026, 2, 10, 12, 0, 0, tzinfo=UTC)


def test_a_stage_is_counted_in_its_pool_from_queue_to_completion(recorded: list[RecordedSignal]) -> None:
    stage_with(StageStatus.PENDING)
    recorded.clear()
    services.queue_stage(workflow_id="wf", stage_name="one", at=NOON)
    assert pool_counters() == (1, 0, 0, 0)
    services.start_stage(workflow_id="wf", stage_name="one", at=NOON + timedelta(seconds=1))
    assert pool_counters() == (0, 1, 0, 0)
    services.complete_stage(workflow_id="wf", stage_name="one", result={}, at=NOON + timedelta(seconds=3))
    assert pool_counters() == (0, 0, 1, 0)
    assert [(name, about) for name, about, *_ in recorded] == [
        ("pool_metrics_changed", "pool"),
        ("stage_started", "wf/one"),
        ("pool_metrics_changed", "pool"),
        ("stage_completed", "wf/one"),
        ("pool_metrics_changed", "pool"),
    ]
    stage = Stage.objects.get(name="one")
    assert (stage.queued_at, stage.started_at) == (NOON, NOON + timedelta(seconds=1))
    assert (stage.finished_at, stage.duration_ms, stage.attempt) == (NOON + timedelta(seconds=3), 2000, 1)
    assert Workflow.objects.get().stages_completed == 1


def test_a_failed_stage_is_counted_as_failed_and_its_workflow_goes_on() -> None:
    stage_with(StageStatus.RUNNING)
    stage = services.fail_stage(workflow_id="wf", stage_name="one", error="It broke", at=NOON)
    assert (stage.status, stage.error, stage.finished_at) == ("failed", "It broke", NOON)
    assert pool_counters() == (0, 0, 0, 1)
    assert (stage.workflow.status, stage.workflow.stages_completed) == ("running", 0)
    assert_all_add_up()


def test_a_skipped_stage_leaves_the_queue() -> None:
    stage_with(StageStatus.QUEUED)
    services.skip_stage(workflow_id="wf", stage_name="one")
    assert pool_counters() == (0, 0, 0, 0)
    assert_all_add_up()


def test_the_workflow_of_a_completed_stage_is_as_stored() -> None:
    stage_with()
    stage = services.complete_stage(workflow_id="wf", stage_name="one", result={}, at=NOON)
    for workflow in (stage.workflow, Workflow.objects.get()):
        assert (workflow.stages_completed, workflow.total_stages, workflow.updated_at) == (1, 3, NOON)


@pytest.mark.parametrize(
    ("result", "stored", "duration_ms"),
    [
        (None, {"duration_ms": 1500}, 1500),
        ({}, {"duration_ms": 1500}, 1500),
        ({"output": "Success"}, {"output": "Success", "duration_ms": 1500}, 1500),
        ({"duration_ms": 7}, {"duration_ms": 7}, 7),
        ({"duration_ms": "long"}, {"duration_ms": "long"}, 1500),
        ({"duration_ms": -1}, {"duration_ms": -1}, 1500),
        ({"duration_ms": True}, {"duration_ms": True}, 1500),
        ({"duration_ms": 2**63}, {"duration_ms": 2**63}, 1500),
        ({1: (2, None), "é": {}}, {"1": [2, None], "é": {}, "duration_ms": 1500}, 1500),
    ],
)
def test_a_result_gets_the_duration_unless_it_has_one(result: Any, stored: Any, duration_ms: int) -> None:
    stage_with()
    services.start_stage(workflow_id="wf", stage_name="one", at=NOON)
    at = NOON + timedelta(milliseconds=1500)
    returned = services.complete_stage(workflow_id="wf", stage_name="one", result=result, at=at)
    for stage in (returned, Stage.objects.get(name="one")):
        assert stage.result == stored
        assert stage.duration_ms == duration_ms


def test_a_stage_nobody_reported_as_started_took_as_long_as_its_workflow_stood_still() -> None:
    workflow_with(WorkflowStatus.PENDING)
    services.start_workflow(workflow_id="wf", at=NOON)
    first = services.complete_stage(workflow_id="wf", stage_name="one", at=NOON + timedelta(seconds=1))
    second = services.complete_stage(workflow_id="wf", stage_name="two", at=NOON + timedelta(seconds=3))
    services.queue_stage(workflow_id="wf", stage_name="three", at=NOON + timedelta(seconds=4))
    third = services.complete_stage(workflow_id="wf", stage_name="three", at=NOON + timedelta(seconds=9))
    assert [stage.duration_ms for stage in (first, second, third)] == [1000, 2000, 5000]
    assert first.started_at is None


def test_a_stage_remembers_the_worker_that_runs_it() -> None:
    stage_with(StageStatus.QUEUED)
    worker_with()
    stage = services.start_stage(workflow_id="wf", stage_name="one", worker_id="worker")
    assert stage.worker_id == Stage.objects.get(name="one").worker_id == "worker"
    services.remove_worker(worker_id="worker")
    stage = Stage.objects.get(name="one")
    assert (stage.worker_id, stage.status) == (None, "running")


def test_a_worker_of_another_pool_may_not_run_the_stage() -> None:
    stage_with(StageStatus.QUEUED)
    worker_with(worker_id="stranger", pool_id="elsewhere")
    with pytest.raises(services.WorkerInOtherPool) as refused:
        services.start_stage(workflow_id="wf", stage_name="one", worker_id="stranger")
    assert str(refused.value) == "Worker stranger belongs to pool elsewhere, not to pool pool."
    assert Stage.objects.get(name="one").status == "queued"


def test_any_worker_may_run_a_stage_without_a_pool() -> None:
    stage_with(StageStatus.PENDING, pool_id=None)
    worker_with()
    assert services.start_stage(workflow_id="wf", stage_name="one", worker_id="worker").worker_id == "worker"


def test_a_worker_that_is_not_there_is_named() -> None:
    stage_with(StageStatus.QUEUED)
    with pytest.raises(services.WorkerNotFound, match=r"^Worker missing not found\.$"):
        services.start_stage(workflow_id="wf", stage_name="one", worker_id="missing")
    assert Stage.objects.get(name="one").status == "queued"


def test_a_pool_that_drains_still_runs_the_stages_of_its_workflows() -> None:
    stage_with(StageStatus.PENDING)
    services.drain_pool(pool_id="pool")
    services.queue_stage(workflow_id="wf", stage_name="one")
    services.start_stage(workflow_id="wf", stage_name="one")
    services.complete_stage(workflow_id="wf", stage_name="one")
    assert_all_add_up()


@pytest.mark.parametrize("change", [services.queue_stage, services.start_stage])
def test_a_closed_pool_accepts_no_stages(change: Any, recorded: list[RecordedSignal]) -> None:
    stage_with(StageStatus.PENDING)
    services.close_pool(pool_id="pool")
    recorded.clear()
    with pytest.raises(services.PoolNotAccepting) as refused:
        change(workflow_id="wf", stage_name="one")
    assert str(refused.value) == "Pool pool is closed and accepts no stages."
    assert Stage.objects.get(name="one").status == "pending"
    assert recorded == []


def test_a_completion_reported_after_its_pool_closed_is_taken() -> None:
    stage_with(StageStatus.PENDING)
    services.close_pool(pool_id="pool")
    services.complete_stage(workflow_id="wf", stage_name="one")
    assert_all_add_up()


def test_what_is_missing_is_named() -> None:
    workflow_with()
    with pytest.raises(services.StageNotFound, match=r"^Stage wf/nothing not found\.$"):
        services.queue_stage(workflow_id="wf", stage_name="nothing")
    with pytest.raises(services.WorkflowNotFound, match=r"^Workflow nowhere not found\.$"):
        services.queue_stage(workflow_id="nowhere", stage_name="one")


def test_two_workflows_may_name_their_stages_alike() -> None:
    pool_with()
    for workflow_id in ("a", "b"):
        workflow_with(workflow_id=workflow_id)
    services.complete_stage(workflow_id="a", stage_name="one")
    assert Stage.objects.get(workflow_id="b", name="one").status == "pending"


def pool_counters() -> tuple[int, int, int, int]:
    """Queued, running, completed, failed."""
    pool = Pool.objects.get()
    return pool.queue_size, pool.tasks_running, pool.tasks_completed, pool.tasks_failed
