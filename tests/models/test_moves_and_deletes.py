"""Moves to another pool and deletes, made without a service, send signals and update counters."""

from __future__ import annotations

import pytest

from orchestration import services, signals
from orchestration.models import Stage, StageStatus, Worker, WorkerStatus, Workflow
from tests.models.counter_audit import assert_all_add_up, counted, gauges, stored
from tests.services.builders import pool_with, stage_with, worker_with, workflow_with
from tests.services.one_stage_runs import join, start_run
from tests.services.signal_recorder import METRICS, RecordedSignal, names_and_ids

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]


def test_worker_moved_to_another_pool_is_counted_there(recorded: list[RecordedSignal]) -> None:
    worker = worker_with("busy")
    worker.pool = pool_with(pool_id="other")
    recorded.clear()
    worker.save()
    moved, changed, *metrics = names_and_ids(recorded)
    # The subscribers of the other pool learn its status from the second signal, with the time of the move.
    assert (moved, changed) == (("worker_moved", "worker"), ("worker_status_changed", "worker"))
    assert metrics == [("pool_metrics_changed", "other"), METRICS]
    assert stored("other")["active_workers"] == 1
    assert Worker.objects.get().status_changed_at == recorded[1].at
    assert_all_add_up()


def test_save_of_a_status_alone_sends_the_stored_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    pools = []
    monkeypatch.setattr(signals.worker_status_changed, "receivers", [])
    signals.worker_status_changed.connect(lambda worker, **_: pools.append(worker.pool_id), weak=False)
    worker = worker_with("busy")
    pools.clear()
    worker.pool = pool_with(pool_id="other")
    worker.status = WorkerStatus.IDLE
    worker.save(update_fields=["status"])
    assert (pools, worker.pool_id, Worker.objects.get().pool_id) == (["pool"], "other", "pool")
    assert_all_add_up()


def test_workflow_moved_to_another_pool_moves_stages_that_have_not_started(recorded: list[RecordedSignal]) -> None:
    workflow_with(stages=["done", "running", "queued", "pending"])
    services.complete_stage(workflow_id="wf", stage_name="done")
    services.start_stage(workflow_id="wf", stage_name="running")
    services.queue_stage(workflow_id="wf", stage_name="queued")
    pool_with(pool_id="other")
    recorded.clear()
    workflow = Workflow.objects.get()
    workflow.pool_id = "other"
    workflow.save()
    assert names_and_ids(recorded) == [("workflow_moved", "wf"), ("pool_metrics_changed", "other"), METRICS]
    pools = dict(Stage.objects.values_list("name", "pool_id"))
    assert pools == {"done": "pool", "running": "pool", "queued": "other", "pending": "other"}
    assert (stored("pool")["queue_size"], stored("other")["queue_size"]) == (0, 1)
    assert_all_add_up()


@pytest.mark.parametrize("status", WorkerStatus.values)
@pytest.mark.parametrize("how", ["instance", "queryset", "old instance"])
def test_delete_of_a_worker_sends_a_signal_and_updates_the_counters(
    status: str, how: str, recorded: list[RecordedSignal]
) -> None:
    stage_with(StageStatus.QUEUED)
    old = worker_with()
    services.start_stage(workflow_id="wf", stage_name="one", worker_id="worker")
    if status != "idle":
        services.change_worker_status(worker_id="worker", status=status)
    recorded.clear()
    match how:
        case "instance":
            Worker.objects.get().delete()
        case "queryset":
            Worker.objects.filter(pool_id="pool").delete()
        case _:
            old.delete()
    assert names_and_ids(recorded) == [("worker_removed", "worker"), METRICS]
    assert stored("pool")["worker_count"] == 0
    assert Stage.objects.get(name="one").worker_id == "worker"
    assert_all_add_up()


def test_second_delete_of_a_worker_changes_nothing(recorded: list[RecordedSignal]) -> None:
    worker_with()
    first, second = Worker.objects.get(), Worker.objects.get()
    recorded.clear()
    first.delete()
    second.delete()
    assert names_and_ids(recorded) == [("worker_removed", "worker"), METRICS]
    assert_all_add_up()


@pytest.mark.parametrize("status", [StageStatus.PENDING, StageStatus.QUEUED, StageStatus.RUNNING])
def test_delete_of_a_stage_updates_the_counters(status: str) -> None:
    stage_with(status).delete()
    workflow = Workflow.objects.get()
    assert (workflow.total_stages, workflow.stages_completed) == (2, 0)
    assert_all_add_up()


@pytest.mark.usefixtures("valkey")
@pytest.mark.parametrize("model", [Stage, Workflow])
def test_delete_of_a_stage_that_a_worker_still_runs_sends_a_signal(
    model: type[Stage | Workflow], recorded: list[RecordedSignal]
) -> None:
    stage, slot = start_run(), join("box")
    services.claim_stage(stage.pk, 1, slot=slot)
    services.cancel_workflow(workflow_id="wf")
    recorded.clear()
    model._default_manager.all().delete()
    assert names_and_ids(recorded)[0] == ("worker_stage_changed", "box-1")
    assert Worker.objects.get().stage is None
    assert_all_add_up()


def test_delete_of_a_stage_keeps_the_pool_total() -> None:
    stage_with(StageStatus.COMPLETED).delete()
    workflow = Workflow.objects.get()
    assert (workflow.total_stages, workflow.stages_completed) == (2, 0)
    assert stored("pool")["tasks_completed"] == 1


@pytest.mark.parametrize("how", ["instance", "queryset"])
def test_delete_of_a_workflow_removes_its_stages_from_the_counters(how: str) -> None:
    stage_with(StageStatus.QUEUED)
    services.start_stage(workflow_id="wf", stage_name="two")
    if how == "instance":
        Workflow.objects.get().delete()
    else:
        Workflow.objects.all().delete()
    assert not Stage.objects.exists()
    assert gauges(stored("pool")) == gauges(counted("pool"))
