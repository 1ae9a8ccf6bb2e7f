"""Queue, start, complete, fail and skip stages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from orchestration import services
from orchestration.models import Pool, Stage, StageStatus, Workflow, WorkflowStatus
from tests.models.counter_audit import assert_all_add_up
from tests.services.builders import pool_with, stage_with, worker_with, workflow_with
from tests.services.signal_recorder import RecordedSignal, names_and_ids

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

NOON = datetime(2026, 2, 10, 12, 0, 0, tzinfo=UTC)


def test_stage_is_counted_in_its_pool_from_queue_to_completion(recorded: list[RecordedSignal]) -> None:
    stage_with(StageStatus.PENDING)
    recorded.clear()
    services.queue_stage(workflow_id="wf", stage_name="one", at=NOON)
    assert pool_counters() == (1, 0, 0, 0)
    services.start_stage(workflow_id="wf", stage_name="one", at=NOON + timedelta(seconds=1))
    assert pool_counters() == (0, 1, 0, 0)
    services.complete_stage(workflow_id="wf", stage_name="one", result={}, at=NOON + timedelta(seconds=3))
    assert pool_counters() == (0, 0, 1, 0)
    assert names_and_ids(recorded) == [
        ("stages_queued", "wf"),
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


def test_fail_stage_counts_the_failure_and_leaves_the_workflow_running() -> None:
    stage_with(StageStatus.RUNNING)
    stage = services.fail_stage(workflow_id="wf", stage_name="one", error="It broke", at=NOON)
    assert (stage.status, stage.error, stage.finished_at) == ("failed", "It broke", NOON)
    assert pool_counters() == (0, 0, 0, 1)
    assert (stage.workflow.status, stage.workflow.stages_completed) == ("running", 0)
    assert_all_add_up()


def test_skip_stage_removes_the_stage_from_the_queue() -> None:
    stage_with(StageStatus.QUEUED)
    services.skip_stage(workflow_id="wf", stage_name="one")
    assert pool_counters() == (0, 0, 0, 0)
    assert_all_add_up()


def test_complete_stage_returns_the_workflow_as_stored() -> None:
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
def test_complete_stage_adds_the_duration_unless_the_result_has_one(result: Any, stored: Any, duration_ms: int) -> None:
    stage_with()
    services.start_stage(workflow_id="wf", stage_name="one", at=NOON)
    at = NOON + timedelta(milliseconds=1500)
    returned = services.complete_stage(workflow_id="wf", stage_name="one", result=result, at=at)
    for stage in (returned, Stage.objects.get(name="one")):
        assert stage.result == stored
        assert stage.duration_ms == duration_ms


def test_duration_without_a_reported_start_counts_from_the_last_workflow_change() -> None:
    workflow_with(WorkflowStatus.PENDING)
    services.start_workflow(workflow_id="wf", at=NOON)
    first = services.complete_stage(workflow_id="wf", stage_name="one", at=NOON + timedelta(seconds=1))
    second = services.complete_stage(workflow_id="wf", stage_name="two", at=NOON + timedelta(seconds=3))
    services.queue_stage(workflow_id="wf", stage_name="three", at=NOON + timedelta(seconds=4))
    third = services.complete_stage(workflow_id="wf", stage_name="three", at=NOON + timedelta(seconds=9))
    assert [stage.duration_ms for stage in (first, second, third)] == [1000, 2000, 5000]
    assert first.started_at is None


def test_stage_keeps_the_id_of_a_worker_that_is_removed() -> None:
    stage_with(StageStatus.QUEUED)
    worker_with()
    stage = services.start_stage(workflow_id="wf", stage_name="one", worker_id="worker")
    assert stage.worker_id == Stage.objects.get(name="one").worker_id == "worker"
    services.remove_worker(worker_id="worker")
    stage = Stage.objects.get(name="one")
    assert (stage.worker_id, stage.status) == ("worker", "running")


def test_start_stage_rejects_a_worker_of_another_pool() -> None:
    stage_with(StageStatus.QUEUED)
    worker_with(worker_id="stranger", pool_id="elsewhere")
    with pytest.raises(services.WorkerInOtherPool) as error:
        services.start_stage(workflow_id="wf", stage_name="one", worker_id="stranger")
    assert str(error.value) == "Worker stranger belongs to pool elsewhere, not to pool pool."
    assert Stage.objects.get(name="one").status == "queued"


def test_start_stage_without_a_pool_accepts_any_worker() -> None:
    stage_with(StageStatus.PENDING, pool_id=None)
    worker_with()
    assert services.start_stage(workflow_id="wf", stage_name="one", worker_id="worker").worker_id == "worker"


def test_start_stage_names_an_unknown_worker() -> None:
    stage_with(StageStatus.QUEUED)
    with pytest.raises(services.WorkerNotFound, match=r"^Worker missing not found\.$"):
        services.start_stage(workflow_id="wf", stage_name="one", worker_id="missing")
    assert Stage.objects.get(name="one").status == "queued"


def test_draining_pool_still_runs_its_stages() -> None:
    stage_with(StageStatus.PENDING)
    services.drain_pool(pool_id="pool")
    services.queue_stage(workflow_id="wf", stage_name="one")
    services.start_stage(workflow_id="wf", stage_name="one")
    services.complete_stage(workflow_id="wf", stage_name="one")
    assert_all_add_up()


@pytest.mark.parametrize("change", [services.queue_stage, services.start_stage])
def test_closed_pool_accepts_no_stages(change: Any, recorded: list[RecordedSignal]) -> None:
    stage_with(StageStatus.PENDING)
    services.close_pool(pool_id="pool")
    recorded.clear()
    with pytest.raises(services.PoolNotAccepting) as error:
        change(workflow_id="wf", stage_name="one")
    assert str(error.value) == "Pool pool is closed and accepts no stages."
    assert Stage.objects.get(name="one").status == "pending"
    assert recorded == []


def test_complete_stage_is_accepted_after_the_pool_closed() -> None:
    stage_with(StageStatus.PENDING)
    services.close_pool(pool_id="pool")
    services.complete_stage(workflow_id="wf", stage_name="one")
    assert_all_add_up()


def test_queue_stage_names_an_unknown_stage_or_workflow() -> None:
    workflow_with()
    with pytest.raises(services.StageNotFound, match=r"^Stage wf/nothing not found\.$"):
        services.queue_stage(workflow_id="wf", stage_name="nothing")
    with pytest.raises(services.WorkflowNotFound, match=r"^Workflow nowhere not found\.$"):
        services.queue_stage(workflow_id="nowhere", stage_name="one")


def test_two_workflows_can_have_equal_stage_names() -> None:
    pool_with()
    for workflow_id in ("a", "b"):
        workflow_with(workflow_id=workflow_id)
    services.complete_stage(workflow_id="a", stage_name="one")
    assert Stage.objects.get(workflow_id="b", name="one").status == "pending"


def pool_counters() -> tuple[int, int, int, int]:
    """Return the counters of queued, running, completed and failed stages."""
    pool = Pool.objects.get()
    return pool.queue_size, pool.tasks_running, pool.tasks_completed, pool.tasks_failed
