"""A rolled-back change leaves no trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from django.db.models import Model

from orchestration import services
from orchestration.models import Pool, Stage, StageStatus, Worker, Workflow
from orchestration.signals import pool_metrics_changed, worker_status_changed
from tests.models.counter_audit import assert_all_add_up, stored
from tests.services.builders import stage_with, worker_with

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]


class RollBack(Exception):
    """Raised to roll a transaction back."""


def save_worker_as_busy() -> None:
    worker = Worker.objects.get()
    worker.status = "busy"
    worker.save()


CHANGES: dict[str, Callable[[], Any]] = {
    "queue a stage": lambda: services.queue_stage(workflow_id="wf", stage_name="one"),
    "start a stage": lambda: services.start_stage(workflow_id="wf", stage_name="one", worker_id="worker"),
    "complete a stage": lambda: services.complete_stage(workflow_id="wf", stage_name="one"),
    "fail a stage": lambda: services.fail_stage(workflow_id="wf", stage_name="one", error=""),
    "cancel a workflow": lambda: services.cancel_workflow(workflow_id="wf"),
    "register a worker": lambda: services.register_worker(worker_id="new", pool_id="pool"),
    "change a worker": lambda: services.change_worker_status(worker_id="worker", status="busy"),
    "remove a worker": lambda: services.remove_worker(worker_id="worker"),
    "save a worker": save_worker_as_busy,
    "delete a workflow": lambda: Workflow.objects.all().delete(),
    "create a pool": lambda: services.create_pool(pool_id="new"),
}


def all_rows() -> list[list[dict[str, Any]]]:
    tables: list[type[Model]] = [Pool, Worker, Workflow, Stage]
    return [list(table._default_manager.order_by("pk").values()) for table in tables]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_transaction_rollback_restores_all_rows(change: Callable[[], Any]) -> None:
    stage_with()
    worker_with()
    before = all_rows()
    with pytest.raises(RollBack), transaction.atomic():
        change()
        assert all_rows() != before
        raise RollBack
    assert all_rows() == before


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_savepoint_rollback_keeps_the_changes_before_it(change: Callable[[], Any]) -> None:
    stage_with()
    worker_with()
    with transaction.atomic():
        services.queue_stage(workflow_id="wf", stage_name="two")
        before = all_rows()
        with pytest.raises(RollBack), transaction.atomic():
            change()
            raise RollBack
    assert all_rows() == before
    assert_all_add_up()


def test_instance_can_be_saved_again_after_a_rollback() -> None:
    worker = worker_with()
    with pytest.raises(RollBack), transaction.atomic():
        worker.status = "busy"
        worker.save()
        raise RollBack
    worker.save()
    assert stored("pool")["active_workers"] == 1
    assert_all_add_up()


def test_error_of_a_receiver_rolls_the_change_back() -> None:
    worker_with()
    before = all_rows()

    def refuse(**_: Any) -> None:
        raise RollBack

    for signal in (worker_status_changed, pool_metrics_changed):
        signal.connect(refuse)  # The fixture disconnects it.
        with pytest.raises(RollBack):
            services.change_worker_status(worker_id="worker", status="busy")
        with pytest.raises(RollBack):
            save_worker_as_busy()
    assert all_rows() == before


def test_rejected_change_leaves_an_outer_transaction_usable() -> None:
    stage_with(StageStatus.COMPLETED)
    with transaction.atomic():
        services.complete_stage(workflow_id="wf", stage_name="two")
        with pytest.raises(services.IllegalTransition):
            services.complete_stage(workflow_id="wf", stage_name="one")
        with pytest.raises(services.AlreadyExists):
            services.create_workflow(workflow_id="wf", adapter="python", prompt="", stages=["one"])
        with pytest.raises(services.AlreadyExists):
            services.create_pool(pool_id="pool")
        services.complete_stage(workflow_id="wf", stage_name="three")
    assert Workflow.objects.get().stages_completed == 3
    assert_all_add_up()
