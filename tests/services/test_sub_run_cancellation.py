"""Sub-runs of a run that ended without completing: the scheduler cancels them, each on its own."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.models import Stage, Workflow
from orchestration.scheduler import Scheduler
from orchestration.services import sub_runs
from orchestration.services.workflows import change_locked_workflow
from tests.harness.logs import logged_by
from tests.models.counter_audit import assert_all_add_up
from tests.services.broker_worker import BrokerWorker
from tests.services.concurrency import run_concurrently
from tests.services.sub_run_trees import start_child, start_children, status_of

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey", "empty_tree_queues"),
]


def test_cancel_goes_down_the_tree_except_to_detached_runs() -> None:
    worker, (child,) = start_children(1, wait=False)
    fan = Stage.objects.get(name="fan")
    detached = start_child(fan.pk, 1, name="detached", detached=True).pk
    services.wait_for_sub_runs(fan.pk, 1, slot=worker.slot, run_ids=[child])
    claim = BrokerWorker(pool_id="children", name="children").take()
    assert claim is not None and claim.workflow.pk == child
    grandchild = start_child(claim.stage.pk, 1, name="deeper").pk
    assert Workflow.objects.get(pk=grandchild).root_id == "parent"
    services.cancel_workflow(workflow_id="parent")
    scheduler = Scheduler()
    assert [scheduler.cancel_sub_runs(database_now()) for _ in range(3)] == [1, 1, 0]
    assert [status_of(run) for run in (child, grandchild, detached)] == ["cancelled", "cancelled", "running"]
    assert scheduler.end_cancellations(database_now()) == 2
    assert not Workflow.objects.filter(children_due_at__isnull=False).exists()
    assert_all_add_up()


def test_sub_run_that_cannot_be_cancelled_delays_no_other(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run_ids = start_children(3)
    bad = run_ids[0]
    services.cancel_workflow(workflow_id="parent")

    def reject_one(workflow: Workflow, *arguments: Any, **options: Any) -> None:
        if workflow.pk == bad:
            raise IntegrityError("a constraint of the row")
        change_locked_workflow(workflow, *arguments, **options)

    scheduler = Scheduler()
    with monkeypatch.context() as patched:
        patched.setattr(sub_runs, "change_locked_workflow", reject_one)
        assert [scheduler.cancel_sub_runs(database_now()) for _ in range(2)] == [2, 0]
    assert [status_of(run_id) for run_id in run_ids] == ["running", "cancelled", "cancelled"]
    line = f"Cannot cancel sub-run {bad}; the scheduler tries again later, less and less often"
    assert logged_by("orchestration.scheduler", caplog) == [line]
    assert scheduler.end_cancellations(database_now()) == 0
    # Another scheduler has not set it aside.
    assert Scheduler().cancel_sub_runs(database_now()) == scheduler.end_cancellations(database_now()) == 1
    assert [status_of(run_id) for run_id in run_ids] == ["cancelled"] * 3
    assert_all_add_up()


def test_retried_parent_keeps_its_sub_runs() -> None:
    _, (child,) = start_children(1)
    services.cancel_workflow(workflow_id="parent")
    services.retry_run(workflow_id="parent")
    assert Scheduler().cancel_sub_runs(database_now()) == 0
    assert not services.cancel_sub_run(child)
    assert not services.end_cancellation("parent")
    assert status_of(child) == "running"


def test_sub_runs_that_end_while_their_parent_is_cancelled_do_not_deadlock() -> None:
    _, run_ids = start_children(10)
    run_concurrently(
        *(lambda run_id=run_id: services.complete_workflow(workflow_id=run_id) for run_id in run_ids[:8]),
        lambda: services.cancel_workflow(workflow_id="parent"),
        *(lambda run_id=run_id: services.cancel_sub_run(run_id) for run_id in run_ids[4:]),
    )
    assert status_of() == "cancelled"
    for run_id in run_ids:
        services.cancel_sub_run(run_id)
    assert services.end_cancellation("parent")
    assert {status_of(run_id) for run_id in run_ids[:8]} <= {"completed", "cancelled"}
    assert {status_of(run_id) for run_id in run_ids[8:]} == {"cancelled"}
    assert_all_add_up()


def test_found_sub_run_of_a_parent_that_is_cancelled_meanwhile_is_not_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    _, (child,) = start_children(1, wait=False)
    fan = Stage.objects.get(name="fan")
    services.fail_workflow(workflow_id=child, error="It broke")
    assert start_child(fan.pk, 1, name="0").status == "running"
    services.fail_workflow(workflow_id=child, error="It broke again")

    def start_run(*args: Any, **options: Any) -> Workflow:
        found = services.start_run(*args, **options)
        services.cancel_workflow(workflow_id="parent")
        services.cancel_sub_run(child)
        return found

    monkeypatch.setattr(sub_runs, "start_run", start_run)
    with pytest.raises(services.AttemptEnded):
        start_child(fan.pk, 1, name="0")
    assert status_of(child) == "failed"
