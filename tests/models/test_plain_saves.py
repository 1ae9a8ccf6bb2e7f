"""Changes made with `save()`, as the admin, a shell or another application makes them."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError, IntegrityError, transaction

from orchestration import services
from orchestration.models import (
    Pool,
    PoolStatus,
    Stage,
    StageStatus,
    Worker,
    WorkerStatus,
    Workflow,
    WorkflowStatus,
)
from tests.models.counter_audit import assert_all_add_up, assert_workflows_add_up, stored
from tests.services.builders import pool_with, stage_with, worker_with, workflow_with
from tests.services.signal_recorder import METRICS, RecordedSignal, names_and_ids

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]


@pytest.mark.parametrize(
    ("status", "signal"),
    [
        (WorkflowStatus.RUNNING, "workflow_started"),
        (WorkflowStatus.COMPLETED, "workflow_completed"),
        (WorkflowStatus.FAILED, "workflow_failed"),
        (WorkflowStatus.TIMEOUT, "workflow_failed"),
        (WorkflowStatus.CANCELLED, "workflow_cancelled"),
    ],
)
@pytest.mark.parametrize("update_fields", [None, ["status"]])
def test_save_of_a_workflow_status_sends_a_signal(
    status: str, signal: str, update_fields: list[str] | None, recorded: list[RecordedSignal]
) -> None:
    workflow = workflow_with(WorkflowStatus.PENDING)
    recorded.clear()
    workflow.status = status
    workflow.save(update_fields=update_fields)
    assert names_and_ids(recorded) == [(signal, "wf")]
    workflow.refresh_from_db()
    assert workflow.status == status
    assert (workflow.finished_at is None) == (status == "running")
    assert workflow.error == ("Execution timeout" if status == "timeout" else "")
    assert workflow.updated_at == recorded[0].at


def test_save_of_a_finished_workflow_ends_its_stages(recorded: list[RecordedSignal]) -> None:
    stage_with(StageStatus.QUEUED)
    workflow = Workflow.objects.get()
    recorded.clear()
    workflow.status = WorkflowStatus.CANCELLED
    workflow.save()
    assert names_and_ids(recorded) == [("workflow_cancelled", "wf"), METRICS]
    assert set(Stage.objects.values_list("status", flat=True)) == {"cancelled"}
    assert_all_add_up()


@pytest.mark.parametrize(
    ("status", "signals"),
    [
        (StageStatus.QUEUED, [("stages_queued", "wf"), METRICS]),
        (StageStatus.RUNNING, [("stage_started", "wf/one"), METRICS]),
        (StageStatus.COMPLETED, [("stage_completed", "wf/one"), METRICS]),
        (StageStatus.FAILED, [("stage_failed", "wf/one"), METRICS]),
        (StageStatus.SKIPPED, [("stage_status_changed", "wf/one")]),
        (StageStatus.CANCELLED, [("stage_status_changed", "wf/one")]),
    ],
)
@pytest.mark.parametrize("update_fields", [None, ["status"]])
def test_save_of_a_stage_status_sends_a_signal_and_updates_the_counters(
    status: str, signals: list[tuple[str, str]], update_fields: list[str] | None, recorded: list[RecordedSignal]
) -> None:
    stage = stage_with()
    recorded.clear()
    stage.status = status
    stage.save(update_fields=update_fields)
    assert names_and_ids(recorded) == signals
    assert_all_add_up()
    stage.refresh_from_db()
    assert stage.status == status
    assert (stage.finished_at is not None) == (status in ("completed", "failed", "skipped", "cancelled"))
    assert (stage.queued_at is not None) == (status == "queued")
    assert (stage.started_at is not None) == (status == "running")


@pytest.mark.parametrize("status", ["busy", "error", "offline"])
@pytest.mark.parametrize("update_fields", [None, ["status"]])
def test_save_of_a_worker_status_sends_a_signal_and_updates_the_counters(
    status: str, update_fields: list[str] | None, recorded: list[RecordedSignal]
) -> None:
    worker = worker_with()
    recorded.clear()
    worker.status = status
    worker.save(update_fields=update_fields)
    assert names_and_ids(recorded) == [("worker_status_changed", "worker"), METRICS]
    assert Worker.objects.get().status_changed_at == recorded[0].at
    assert_all_add_up()


@pytest.mark.parametrize(
    ("before", "status", "signal"),
    [
        ("active", "draining", "pool_drained"),
        ("active", "closed", "pool_closed"),
        ("draining", "active", "pool_reopened"),
        ("closed", "active", "pool_reopened"),
    ],
)
@pytest.mark.parametrize("update_fields", [None, ["status"]])
def test_save_of_a_pool_status_sends_a_signal(
    before: str, status: str, signal: str, update_fields: list[str] | None, recorded: list[RecordedSignal]
) -> None:
    pool = pool_with(before)
    recorded.clear()
    pool.status = status
    pool.save(update_fields=update_fields)
    assert names_and_ids(recorded) == [(signal, "pool")]
    assert Pool.objects.get().status == status


def test_rows_created_without_a_service_send_signals_and_are_counted(recorded: list[RecordedSignal]) -> None:
    pool = Pool.objects.create(id="pool")
    worker = Worker(id="worker", pool=pool, status=WorkerStatus.BUSY)
    worker.save()
    workflow = Workflow.objects.create(id="wf", adapter="python", status=WorkflowStatus.RUNNING, pool=pool)
    Stage.objects.create(workflow=workflow, name="one", position=0, pool=pool, status=StageStatus.QUEUED)
    Stage.objects.create(workflow=workflow, name="two", position=1, pool=pool, status=StageStatus.COMPLETED)
    assert names_and_ids(recorded) == [
        ("pool_created", "pool"),
        ("worker_added", "worker"),
        METRICS,
        ("workflow_created", "wf"),
        ("workflow_started", "wf"),
        ("stage_added", "wf/one"),
        ("stages_queued", "wf"),
        METRICS,
        ("stage_added", "wf/two"),
        ("stage_completed", "wf/two"),
        METRICS,
    ]
    workflow.refresh_from_db()
    assert (workflow.total_stages, workflow.stages_completed) == (2, 1)
    # The times of their signals.
    assert (Pool.objects.get().created_at, workflow.created_at) == (recorded[0].at, recorded[3].at)
    assert_all_add_up()


def test_save_without_a_status_change_sends_no_signal(recorded: list[RecordedSignal]) -> None:
    stage = stage_with(StageStatus.RUNNING)
    worker = worker_with(WorkerStatus.BUSY)
    recorded.clear()
    for row in (stage, stage.workflow, worker, Pool.objects.get()):
        row.save()
        row.save(update_fields=["status"])
        row.save(update_fields=[])
    assert recorded == []
    assert_all_add_up()


def test_save_ignores_a_status_outside_update_fields(
    recorded: list[RecordedSignal],
) -> None:
    workflow = workflow_with()
    worker = worker_with()
    recorded.clear()
    workflow.status, workflow.prompt = "completed", "Another"
    workflow.save(update_fields=["prompt"])
    worker.status = "busy"
    worker.save(update_fields=["last_heartbeat_at"])
    assert recorded == []
    workflow.refresh_from_db()
    assert (workflow.status, workflow.prompt, workflow.finished_at) == ("running", "Another", None)
    assert Worker.objects.get().status == "idle"
    assert_all_add_up()


def test_save_with_deferred_fields_compares_with_the_stored_row(recorded: list[RecordedSignal]) -> None:
    worker_with("busy")
    recorded.clear()
    without_status = Worker.objects.only("registered_at").get()
    without_status.save()
    assert recorded == []
    without_pool = Worker.objects.defer("pool").get()
    without_pool.status = "idle"
    without_pool.save()
    assert names_and_ids(recorded) == [("worker_status_changed", "worker"), METRICS]
    assert_all_add_up()


def test_save_of_an_old_instance_keeps_the_counters(recorded: list[RecordedSignal]) -> None:
    pool, workflow = pool_with(), workflow_with()
    worker_with()
    services.complete_stage(workflow_id="wf", stage_name="one")
    services.queue_stage(workflow_id="wf", stage_name="two")
    recorded.clear()
    pool.save()
    workflow.prompt = "Another"
    workflow.save()
    assert recorded == []
    assert stored("pool")["queue_size"] == stored("pool")["tasks_completed"] == stored("pool")["worker_count"] == 1
    assert_all_add_up()


def test_save_of_an_old_instance_compares_with_the_stored_row(recorded: list[RecordedSignal]) -> None:
    old = worker_with()
    services.change_worker_status(worker_id="worker", status="busy")
    recorded.clear()
    old.status = "busy"
    old.save()
    assert recorded == []
    old.status = "error"
    old.save()
    assert names_and_ids(recorded) == [("worker_status_changed", "worker"), METRICS]
    assert_all_add_up()


def test_save_of_a_new_instance_with_an_existing_id_updates_the_row(recorded: list[RecordedSignal]) -> None:
    worker = worker_with()
    recorded.clear()
    Worker(id="worker", pool=worker.pool, status="busy").save()
    assert names_and_ids(recorded) == [("worker_status_changed", "worker"), METRICS]
    assert_all_add_up()


def test_restarted_stage_leaves_the_workflow_counter_but_not_the_pool_total() -> None:
    stage = stage_with(StageStatus.COMPLETED)
    stage.status = StageStatus.PENDING
    stage.save()
    assert stage.workflow.stages_completed == 0
    assert stored("pool")["tasks_completed"] == 1
    stage.status = StageStatus.COMPLETED
    stage.save()
    assert stored("pool")["tasks_completed"] == 2
    assert_workflows_add_up()


def test_save_rejects_an_invalid_id() -> None:
    pool = pool_with()
    rows: list[Any] = [Pool(id="a b"), Worker(id="a:b", pool=pool), Workflow(id="é", adapter="python"), Pool(id="")]
    for row in rows:
        with pytest.raises(ValidationError):
            row.save()
    assert (Pool.objects.count(), Worker.objects.count(), Workflow.objects.count()) == (1, 0, 0)


def test_update_of_a_deleted_row_raises_an_error() -> None:
    worker = worker_with()
    Worker.objects.all().delete()
    with pytest.raises(DatabaseError):
        worker.save(update_fields=["status"])
    with pytest.raises(DatabaseError):
        worker.save(force_update=True)
    assert_all_add_up()


def test_database_rejects_work_saved_into_a_closed_pool(recorded: list[RecordedSignal]) -> None:
    stage = stage_with()
    services.close_pool(pool_id="pool")
    recorded.clear()
    stage.status = StageStatus.QUEUED
    with pytest.raises(IntegrityError, match="orchestration_pool_closed_has_no_work"):
        stage.save()
    assert Stage.objects.get(name="one").status == "pending"
    assert stored("pool")["queue_size"] == 0


def test_save_locked_rejects_a_row_that_is_not_marked() -> None:
    pool = pool_with()
    pool.status = PoolStatus.DRAINING
    with transaction.atomic(), pytest.raises(RuntimeError, match=r"is not marked as locked"):
        pool.save_locked(at=pool.updated_at, update_fields=["status"])
