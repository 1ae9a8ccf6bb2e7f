"""What is undone leaves nothing behind."""

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


class Undone(Exception):
    """Raised to leave a transaction."""


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


def everything() -> list[list[dict[str, Any]]]:
    tables: list[type[Model]] = [Pool, Worker, Workflow, Stage]
    return [list(table._default_manager.order_by("pk").values()) for table in tables]


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_transaction_rolled_back_leaves_all_as_it_was(change: Callable[[], Any]) -> None:
    stage_with()
    worker_with()
    before = everything()
    with pytest.raises(Undone), transaction.atomic():
        change()
        assert everything() != before
        raise Undone
    assert everything() == before


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_savepoint_rolled_back_leaves_what_was_done_before_it(change: Callable[[], Any]) -> None:
    stage_with()
    worker_with()
    with transaction.atomic():
        services.queue_stage(workflow_id="wf", stage_name="two")
        before = everything()
        with pytest.raises(Undone), transaction.atomic():
            change()
            raise Undone
    assert everything() == before
    assert_all_add_up()


def test_an_instance_can_be_saved_again_after_its_change_was_undone() -> None:
    worker = worker_with()
    with pytest.raises(Undone), transaction.atomic():
        worker.status = "busy"
        worker.save()
        raise Undone
    worker.save()
    assert stored("pool")["active_workers"] == 1
    assert_all_add_up()


def test_a_receiver_that_raises_undoes_the_change() -> None:
    worker_with()
    before = everything()

    def refuse(**_: Any) -> None:
        raise Undone

    for signal in (worker_status_changed, pool_metrics_changed):
        signal.connect(refuse)  # The fixture takes it away again.
        with pytest.raises(Undone):
            services.change_worker_status(worker_id="worker", status="busy")
        with pytest.raises(Undone):
            save_worker_as_busy()
    assert everything() == before


def test_a_refused_change_leaves_an_outer_transaction_usable() -> None:
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
