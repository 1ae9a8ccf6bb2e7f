"""Tests of reports as the database has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from orchestration import services, signals
from orchestration.models import Pool, Stage, Worker, Workflow
from orchestration.observers.celery.identity import Identity
from orchestration.observers.celery.reports import StoredTask
from orchestration.observers.celery.sink import ServiceSink
from orchestration.observers.celery.stored import is_finished, unfinished_tasks
from tests.observers.feed import BOX, OTHER, SETTLE_SECONDS, Feed

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases]


def store(feed: Feed) -> int:
    return ServiceSink()(feed.observer.take_reports())


def started() -> Feed:
    feed = Feed()
    feed.send("worker-online", freq=2, pid=7)
    feed.serve(BOX, "orders")
    feed.run("a", root_id="a")
    return feed


def stage(workflow_id: str = "shop-a", **fields: Any) -> Stage:
    return Stage.objects.get(workflow_id=workflow_id, **fields)


def test_observed_rows_are_marked_and_counted() -> None:
    feed = started()
    assert store(feed) == 0
    workflow, worker, pool = Workflow.objects.get(), Worker.objects.get(), Pool.objects.get()
    assert (workflow.pk, workflow.name, workflow.adapter, workflow.status) == (
        "shop-a",
        "shop.add",
        "celery",
        "running",
    )
    assert {row.reported_by for row in (workflow, worker, pool)} == {"celery"}
    assert (worker.status, stage().status, stage().worker_id) == ("busy", "running", worker.pk)
    assert (pool.tasks_running, pool.worker_count) == (1, 1)
    feed.send("task-succeeded", uuid="a", runtime=0.5)
    feed.wait(SETTLE_SECONDS)
    assert store(feed) == 0
    assert (Workflow.objects.get().status, stage().duration_ms, Pool.objects.get().tasks_completed) == (
        "completed",
        500,
        1,
    )
    assert is_finished("shop-a")


def test_retry_keeps_the_failed_attempt() -> None:
    feed = started()
    feed.send("task-retried", uuid="a", exception="Again")
    feed.run("a", retries=1)
    feed.send("task-succeeded", uuid="a")
    assert store(feed) == 0
    (failed,) = stage().failed_attempts.all()
    assert (stage().attempt, stage().status, failed.error, failed.reason) == (2, "completed", "Again", "failed")


def test_second_observer_repeats_nothing_and_continues() -> None:
    feed = started()
    store(feed)
    (stored,) = unfinished_tasks(Identity("shop"))
    assert stored == StoredTask("shop-a", stage().name, "running")
    assert list(unfinished_tasks(Identity("other"))) == []
    again = Feed()
    again.observer.restore([stored], now=again.now, clock=0)
    again.send("worker-heartbeat", freq=2, pid=7)
    again.serve(BOX, "orders")
    again.run("b", root_id="a")
    again.send("task-succeeded", uuid="b")
    again.send("task-failed", uuid="a", exception="x")
    again.wait(SETTLE_SECONDS)
    assert store(again) == 0
    workflow = Workflow.objects.get()
    assert (workflow.status, workflow.total_stages, workflow.stages_completed) == ("failed", 2, 1)


def test_reports_that_are_stored_twice_change_nothing() -> None:
    feed = started()
    feed.send("task-succeeded", uuid="a")
    reports = feed.observer.take_reports()
    assert ServiceSink()(reports) == 0
    before = list(Stage.objects.values()), list(Workflow.objects.values("status", "total_stages"))
    assert ServiceSink()(reports) > 0
    assert before == (list(Stage.objects.values()), list(Workflow.objects.values("status", "total_stages")))


def test_observer_that_has_forgotten_a_tree_continues_with_its_workflow() -> None:
    store(started())
    again = Feed()
    again.serve(BOX, "orders", "mail")
    again.run("b", root_id="a", queue="mail")
    assert store(again) == 0
    stages = Stage.objects.order_by("position").values_list("workflow_id", "pool_id", "status")
    assert list(stages) == [("shop-a", "shop-orders", "running"), ("shop-a", "shop-mail", "running")]


def insert_the_same_workflow() -> None:
    Workflow.objects.bulk_create([Workflow(id="shop-a", adapter="celery", prompt="")])


def close_the_pool() -> None:
    Pool.objects.update(status="closed")


@pytest.mark.parametrize("interfere", [insert_the_same_workflow, close_the_pool])
def test_transaction_is_repeated_if_others_change_its_rows_at_the_same_moment(interfere: Callable[[], None]) -> None:
    feed = Feed()
    feed.serve(BOX, "orders")
    store(feed)
    feed.run("a", root_id="a")
    calls: list[str] = []

    def interfere_once(workflow: Workflow, **_: Any) -> None:
        calls.append(workflow.pk)
        if len(calls) == 1:
            interfere()

    signals.workflow_created.connect(interfere_once)
    try:
        assert store(feed) == 0
    finally:
        signals.workflow_created.disconnect(interfere_once)
    # What interfered was rolled back with the first attempt.
    assert (calls, stage().status, Pool.objects.get().status) == (["shop-a"] * 2, "running", "active")


def test_drained_pool_and_ended_workflow_reject_no_other_report() -> None:
    feed = started()
    store(feed)
    services.drain_pool(pool_id="shop-orders")
    services.cancel_workflow(workflow_id="shop-a")
    feed.send("task-succeeded", uuid="a")
    feed.run("c", root_id="c")
    # The worker of another queue.
    feed.send("worker-online", OTHER, freq=2)
    feed.serve(OTHER, "mail")
    feed.run("c", OTHER, root_id="c")
    assert store(feed) == 1
    assert (Workflow.objects.get(pk="shop-a").status, stage("shop-c").status) == ("cancelled", "running")


def test_task_on_a_worker_of_the_engine_is_shown_without_it() -> None:
    services.create_pool(pool_id="shop-orders")
    services.join_pool(name="shop-celery_box", process="x", pool_id="shop-orders")
    feed = Feed()
    feed.serve("celery@box-1", "orders")
    feed.run("a", "celery@box-1", root_id="a")
    # Its registration and its status are rejected.
    assert store(feed) == 2
    assert (stage().status, stage().worker_id) == ("running", None)
    assert (Worker.objects.get().pk, Worker.objects.get().reported_by) == ("shop-celery_box-1", "")


def test_workflow_and_worker_of_others_are_not_changed() -> None:
    """A forged event may name any id that begins with the prefix."""
    services.create_workflow(workflow_id="shop-a", adapter="other", prompt="", stages=["s"])
    services.start_workflow(workflow_id="shop-a")
    services.create_pool(pool_id="shop-orders")
    services.register_worker(worker_id="shop-celery_box", pool_id="shop-orders")
    feed = started()
    feed.send("task-succeeded", uuid="a")
    feed.wait(SETTLE_SECONDS)
    feed.send("worker-offline")
    store(feed)
    workflow, worker = Workflow.objects.get(), Worker.objects.get()
    assert (workflow.status, workflow.total_stages, workflow.reported_by) == ("running", 1, "")
    assert (worker.status, worker.reported_by) == ("idle", "")
    assert list(unfinished_tasks(Identity("shop"))) == []
