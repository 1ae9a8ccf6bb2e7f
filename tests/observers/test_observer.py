"""Tests of the state of an observed application, with recorded events."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest

from orchestration.models import StageStatus, WorkflowStatus
from orchestration.observers.celery import observer as observer_module
from orchestration.observers.celery.bounds import CONFIRM_SECONDS
from orchestration.observers.celery.events import Kind, TaskEvent, WorkerReply
from orchestration.observers.celery.identity import stage_name
from orchestration.observers.celery.reports import StoredTask
from orchestration.services.report_types import (
    ReportedStage,
    RunReport,
    StageMessage,
    StageReport,
    WorkerReport,
)
from tests.observers.feed import BOX, OTHER, SETTLE_SECONDS, Feed, at, name_of, pool, worker

STAGE: dict[str, Any] = {"workflow_id": "shop-a", "stage_name": stage_name("shop.add", "a")}


@pytest.fixture
def feed() -> Feed:
    feed = Feed()
    feed.send("worker-online", freq=2, pid=7)
    feed.serve()
    feed.reports()
    return feed


def test_worker_joins_the_pool_of_its_queue() -> None:
    feed = Feed()
    feed.send("worker-online", freq=2)
    assert feed.reports() == []
    feed.serve(BOX, "orders", "mail")
    assert feed.reports() == [
        pool("orders", feed.now),
        pool("mail", feed.now),
        worker("idle", "orders", feed.now, is_new=True),
    ]


def test_worker_that_names_no_queue_joins_the_pool_of_unknown_queues() -> None:
    feed = Feed()
    feed.send("worker-online", freq=2)
    feed.wait(6)
    assert worker("idle", "_unknown", feed.now, is_new=True) in feed.reports()


def test_task_tree_is_one_workflow(feed: Feed) -> None:
    feed.run("a", root_id="a")
    feed.send("task-succeeded", uuid="a", result="3", runtime=0.25)
    feed.run("b", root_id="a", parent_id="a")
    feed.send("task-succeeded", uuid="b", result="3", runtime=0.5)
    feed.wait(SETTLE_SECONDS)
    first, second = stage_name("shop.add", "a"), stage_name("shop.add", "b")

    def run(status: str, seconds: int, **fields: Any) -> RunReport:
        return RunReport(at=at(seconds), workflow_id="shop-a", status=WorkflowStatus(status), **fields)

    def stage(name: str, status: str, seconds: int, **fields: Any) -> StageReport:
        return StageReport(at=at(seconds), workflow_id="shop-a", stage_name=name, status=StageStatus(status), **fields)

    stages = (ReportedStage(name=first),)
    assert feed.of_workflows() == [
        run("running", 2, name="shop.add", adapter="celery", pool_id="shop-orders", stages=stages),
        stage(first, "queued", 2, pool_id="shop-orders"),
        stage(first, "running", 3, worker_id="shop-celery_box"),
        stage(first, "completed", 4, result={"duration_ms": 250}),
        stage(second, "queued", 5, pool_id="shop-orders"),
        stage(second, "running", 6, worker_id="shop-celery_box"),
        stage(second, "completed", 7, result={"duration_ms": 500}),
        run("completed", 7),
    ]
    assert feed.observer.size == (0, 0)


def test_task_after_the_end_is_the_next_part(feed: Feed) -> None:
    feed.run("a", root_id="a")
    feed.send("task-succeeded", uuid="a")
    feed.wait(SETTLE_SECONDS)
    feed.reports()
    feed.run("b", root_id="a")
    assert {report.workflow_id for report in feed.of_workflows()} == {"shop-a.2"}


def test_task_of_a_workflow_that_has_ended_in_the_database_is_the_next_part() -> None:
    feed = Feed(is_finished=lambda workflow_id: workflow_id in ("shop-a", "shop-a.2"))
    feed.run("b", root_id="a")
    assert {report.workflow_id for report in feed.of_workflows()} == {"shop-a.3"}


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ({"type_": "task-failed", "exception": "ValueError('x')"}, ["stage_failed", "failed"]),
        ({"type_": "task-revoked", "terminated": True}, ["stage_failed", "cancelled"]),
        ({"type_": "task-rejected", "requeue": False}, ["stage_failed", "failed"]),
        ({"type_": "task-rejected", "requeue": True}, ["stage_retrying"]),
        ({"type_": "task-cancelled"}, ["stage_retrying"]),
        ({"type_": "task-retried", "exception": "x"}, ["stage_retrying"]),
    ],
    ids=lambda value: str(value),
)
def test_each_end_of_a_running_task(feed: Feed, end: dict[str, Any], expected: list[str]) -> None:
    feed.run("a")
    feed.reports()
    feed.send(**end, uuid="a")
    feed.wait(SETTLE_SECONDS)
    assert feed.names() == expected


def test_task_that_is_revoked_before_it_runs_is_skipped(feed: Feed) -> None:
    feed.send("task-received", uuid="a", name="shop.add")
    feed.reports()
    feed.send("task-revoked", uuid="a", expired=True)
    assert feed.names() == ["stage_status_changed"]


def test_retry_is_reported_once_in_any_order(feed: Feed) -> None:
    feed.run("a", retries=0)
    feed.reports()
    feed.send("task-retried", uuid="a", exception="Again")
    feed.run("a", retries=1)
    # The next retry is received before the event of the failure arrives. This event alone has the error.
    feed.run("a", OTHER, retries=2)
    feed.send("task-retried", uuid="a", exception="Once more")
    feed.send("task-succeeded", OTHER, uuid="a")
    reports = feed.of_workflows()
    message = "Retried after Once more"
    assert StageMessage(at=feed.now - timedelta(seconds=1), **STAGE, message=message) in reports
    names = [name_of(report) for report in reports]
    assert names == [*["stage_retrying", "stage_started"] * 2, "stage_log", "stage_completed"]


def test_late_and_repeated_events_change_nothing(feed: Feed) -> None:
    feed.run("a", root_id="a")
    feed.run("b", root_id="a")
    feed.send("task-succeeded", uuid="a")
    feed.reports()
    for type_ in ("task-sent", "task-received", "task-started", "task-succeeded", "task-failed", "task-retried"):
        feed.send(type_, uuid="a", name="shop.add", root_id="a")
    assert feed.names() == []


def test_task_of_a_lost_worker_stays_running(feed: Feed) -> None:
    feed.run("a")
    feed.reports()
    feed.wait(9)
    assert feed.reports() == []
    feed.wait(9)
    log, offline = feed.reports()
    assert log == StageMessage(
        at=feed.now, **STAGE, message="Worker lost. Celery does not report what became of the task"
    )
    assert offline == worker("offline", "orders", feed.now)
    feed.wait(3600)
    assert feed.reports() == []
    # Its message is delivered to another worker after all.
    feed.run("a", OTHER)
    feed.send("task-succeeded", OTHER, uuid="a")
    feed.wait(SETTLE_SECONDS)
    assert feed.names() == ["stage_retrying", "stage_started", "stage_completed", "completed"]


def test_tasks_of_a_worker_that_restarts_at_once_are_lost_too(feed: Feed) -> None:
    feed.run("a")
    feed.reports()
    feed.send("worker-online", freq=2, pid=8)
    assert [type(report) for report in feed.reports()] == [StageMessage, WorkerReport]


def test_gap_is_reported_and_tasks_that_no_worker_names_afterwards_may_be_lost(feed: Feed) -> None:
    feed.run("a")
    feed.run("b")
    feed.reports()
    feed.observer.note_gap(12.0, now=feed.now, clock=feed.seconds)
    messages = [report.message for report in feed.reports() if isinstance(report, StageMessage)]
    assert messages == ["The observer was without the broker for 12.0 s: events of this time are missing"] * 2
    active = (TaskEvent(Kind.STARTED, "b", BOX, name="shop.add"),)
    feed.observer.apply_reply(WorkerReply(BOX, active=active), now=feed.now, clock=feed.seconds)
    for _ in range(int(CONFIRM_SECONDS) + 1):
        feed.send("worker-heartbeat", freq=2, pid=7)
        feed.wait(0)
    (lost,) = feed.reports()
    assert isinstance(lost, StageMessage)
    assert lost.stage_name == stage_name("shop.add", "a")


def test_running_task_of_an_unknown_tree_is_a_workflow_unless_an_event_names_the_tree() -> None:
    feed = Feed()
    active = tuple(TaskEvent(Kind.STARTED, uuid, BOX, name="shop.add") for uuid in ("a", "b", "c"))
    feed.observer.apply_reply(WorkerReply(BOX, active=active), now=feed.now, clock=feed.seconds)
    feed.send("task-received", uuid="b", name="shop.add", root_id="root")
    feed.send("task-succeeded", uuid="c")
    feed.wait(3)
    started = [report.workflow_id for report in feed.of_workflows() if name_of(report) == "started"]
    assert started == ["shop-root", "shop-a"]


def test_restarted_observer_continues_with_stored_tasks() -> None:
    feed = Feed()
    done, running = stage_name("shop.add", "a"), stage_name("shop.add", "b")
    stored = [StoredTask("shop-a.2", done, "failed", error="x"), StoredTask("shop-a.2", running, "running")]
    feed.observer.restore(stored, now=feed.now, clock=0)
    feed.send("task-succeeded", uuid="b")
    feed.wait(SETTLE_SECONDS)
    (completed, failed) = feed.of_workflows()
    assert isinstance(completed, StageReport)
    assert completed.stage_name == running
    error = f"1 of 2 tasks failed; the first: {done}: x"
    assert failed == RunReport(at=failed.at, workflow_id="shop-a.2", status=WorkflowStatus.FAILED, error=error)


def test_arguments_and_results_are_hidden_unless_asked_for() -> None:
    for shows in (False, True):
        feed = Feed(shows_arguments=shows)
        feed.send("task-received", uuid="a", name="shop.add", args="('secret',)", kwargs="{}")
        feed.send("task-started", uuid="a")
        feed.send("task-succeeded", uuid="a", result="'outcome'")
        reports = str(feed.reports())
        assert ("secret" in reports, "outcome" in reports) == (shows, shows)


def test_times_of_a_skewed_clock_are_replaced_and_time_moves_forward(feed: Feed) -> None:
    feed.run("a")
    feed.observer.take_reports()
    for timestamp in (1e300, -1e300, 0, feed.now.timestamp() + 3600, feed.now.timestamp() - 60):
        feed.send("task-retried", uuid="a", timestamp=timestamp)
        feed.send("task-started", uuid="a")
    times = [report.at for report in feed.of_workflows()]
    assert times == sorted(times)
    assert all(abs((at - feed.now).total_seconds()) < 60 for at in times)


def test_memory_is_bounded(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer_module, "MAX_TREES", 3)
    monkeypatch.setattr(observer_module, "MAX_TASKS", 6)
    monkeypatch.setattr(observer_module, "MAX_TASKS_PER_TREE", 4)
    for number in range(20):
        feed.run(f"t{number}")
    assert feed.observer.size == (3, 3)
    assert feed.observer.counts.forgotten == 17
    for number in range(20):
        feed.run(f"b{number}", root_id="big")
    assert feed.observer.size[1] <= 6
    assert feed.observer.counts.dropped > 0


def test_event_about_an_unknown_task_is_counted_only(feed: Feed) -> None:
    feed.send("task-succeeded", uuid="x")
    feed.observer.apply(None, now=feed.now, clock=feed.seconds)
    counts = feed.observer.counts
    assert (counts.unknown, counts.invalid, feed.reports()) == (1, 1, [])


def test_every_order_of_events_is_survived(feed: Feed) -> None:
    types = [kind.value for kind in Kind]
    for first, second in itertools.product(types, types):
        for type_ in (first, second, first):
            feed.send(type_, uuid="a", name="shop.add", freq=1)
        feed.wait(30)
    assert feed.observer.size == (0, 0) or feed.reports()
