"""A transaction's events are in the log if and only if it commits: once, in order, written by its last statements.

The tests change the database through the project's services or a plain `save()`, in this process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orchestration import services
from orchestration.models import Pool, Workflow
from realtime.broadcast.publisher import publisher
from realtime.events import receivers
from realtime.models import Event, EventRoom
from realtime.protocol.payload import decode_object

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def logged_events() -> list[tuple[str, str]]:
    """Return each event of the log in order: its name and the id of its resource."""
    return [
        (name, room.split(":")[1])
        for name, room in EventRoom.objects.filter(room__regex="^(workflow|pool):")
        .order_by("event_id")
        .values_list("event__name", "room")
    ]


def create_workflow(workflow_id: str, **given: Any) -> None:
    services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=["only"], **given)


def test_service_without_a_transaction_writes_its_event() -> None:
    create_workflow("a")
    assert logged_events() == [("workflow.created", "a")]


def test_save_without_a_transaction_writes_its_event() -> None:
    create_workflow("a")
    workflow = Workflow.objects.get()
    workflow.status = "running"
    workflow.save()
    assert logged_events() == [("workflow.created", "a"), ("workflow.started", "a")]


def test_events_of_an_outer_transaction_are_written_at_its_commit_in_order() -> None:
    with transaction.atomic():
        create_workflow("a")
        create_workflow("b")
        services.start_workflow(workflow_id="b")
        services.start_workflow(workflow_id="a")
        assert not Event.objects.exists()
    assert logged_events() == [
        ("workflow.created", "a"),
        ("workflow.created", "b"),
        ("workflow.started", "b"),
        ("workflow.started", "a"),
    ]
    seqs = list(Event.objects.order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(seqs[0], seqs[0] + 4))


def test_rollback_writes_no_events() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        create_workflow("a")
        raise ZeroDivisionError
    with transaction.atomic():
        create_workflow("b")
        transaction.set_rollback(True)
    assert logged_events() == []
    create_workflow("c")
    assert logged_events() == [("workflow.created", "c")]


def test_savepoint_rollback_discards_the_events_of_the_savepoint() -> None:
    with transaction.atomic():
        create_workflow("a")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            create_workflow("b")
            with transaction.atomic():
                create_workflow("c")
            raise ZeroDivisionError
        savepoint = transaction.savepoint()
        create_workflow("d")
        transaction.savepoint_rollback(savepoint)
        with transaction.atomic():
            create_workflow("e")
    assert logged_events() == [("workflow.created", "a"), ("workflow.created", "e")]


def test_illegal_transition_writes_no_event_into_the_outer_transaction() -> None:
    create_workflow("a")
    with transaction.atomic():
        services.start_workflow(workflow_id="a")
        with pytest.raises(services.IllegalTransition):
            services.start_workflow(workflow_id="a")
    assert logged_events() == [("workflow.created", "a"), ("workflow.started", "a")]


def test_pool_metrics_are_written_once_per_transaction_with_the_final_values() -> None:
    with transaction.atomic():
        for pool_id in ("p", "q"):
            services.create_pool(pool_id=pool_id)
        for number in range(5):
            services.register_worker(worker_id=f"w{number}", pool_id="p")
        services.change_worker_status(worker_id="w0", status="busy")
        services.register_worker(worker_id="other", pool_id="q")
        services.change_worker_status(worker_id="w1", status="error")
    published = Event.objects.filter(name="pool.status_changed").order_by("seq")
    data = [decode_object(event.data) for event in published]
    assert [(item["pool_id"], item["status"]["worker_count"]) for item in data] == [("p", 5), ("q", 1)]
    assert data[0]["status"] == {
        "active_workers": 1,
        "idle_workers": 3,
        "queue_size": 0,
        "tasks_completed": 0,
        "tasks_failed": 0,
        "worker_count": 5,
        "error_workers": 1,
        "tasks_running": 0,
    }
    # Metrics come after the events that changed them.
    assert [event.name for event in Event.objects.order_by("-seq")[:2]] == ["pool.status_changed"] * 2


def test_pool_metrics_of_a_deleted_pool_are_not_written() -> None:
    with transaction.atomic():
        services.create_pool(pool_id="p")
        services.register_worker(worker_id="w", pool_id="p")
        services.remove_worker(worker_id="w")
        Pool.objects.filter(pk="p").delete()
    assert [name for name, _ in logged_events()] == [
        "pool.created",
        "worker.added",
        "worker.removed",
        "pool.removed",
    ]


def test_events_are_written_by_the_last_statements_before_the_commit() -> None:
    create_workflow("a")
    with CaptureQueriesContext(connection) as queries, transaction.atomic():
        create_workflow("b")
        create_workflow("c")
    tables = [query["sql"].split('"')[1] for query in queries if query["sql"].startswith(("INSERT", "UPDATE"))]
    assert tables[-2:] == ["realtime_event", "realtime_eventroom"]
    assert not any(table.startswith("realtime") for table in tables[:-2])


def test_encoding_error_rolls_the_change_back_and_is_raised_by_the_commit() -> None:
    with pytest.raises(TypeError, match="Encoding objects of type complex"), transaction.atomic():
        create_workflow("a")
        receivers.announce_as_given("test", data={"result": 1j}, rooms=(), timestamp=timezone.now())
    assert (Workflow.objects.count(), logged_events(), connection.in_atomic_block) == (0, [], False)
    create_workflow("b")
    assert logged_events() == [("workflow.created", "b")]


def test_database_error_while_writing_events_rolls_the_change_back() -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        create_workflow("a")
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE realtime_eventroom")
    assert (Workflow.objects.count(), logged_events(), connection.in_atomic_block) == (0, [], False)
    create_workflow("b")
    assert logged_events() == [("workflow.created", "b")]


@pytest.fixture
def manual_commits() -> Iterator[None]:
    transaction.set_autocommit(False)
    yield
    transaction.rollback()
    transaction.set_autocommit(True)


@pytest.mark.usefixtures("manual_commits")
def test_manual_commits_write_each_event_once() -> None:
    create_workflow("a")
    transaction.commit()
    create_workflow("b")
    transaction.rollback()
    create_workflow("c")
    transaction.commit()
    transaction.commit()
    assert logged_events() == [("workflow.created", "a"), ("workflow.created", "c")]


def test_publishing_runs_before_other_commit_hooks(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(publisher(), "publish", lambda deliveries: order.append(f"{len(deliveries)} deliveries"))

    def fail() -> None:
        order.append("another hook")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        transaction.on_commit(fail)
        create_workflow("a")
    assert order == ["2 deliveries", "another hook"]
    assert logged_events() == [("workflow.created", "a")]


def test_error_while_publishing_is_logged_and_other_commit_hooks_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(deliveries: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(publisher(), "publish", fail)
    called: list[str] = []
    with transaction.atomic():
        transaction.on_commit(lambda: called.append("another hook"))
        create_workflow("a")
    assert called == ["another hook"]
    assert "publish_after_commit in on_commit() during transaction (can't start new thread)" in caplog.text
    assert logged_events() == [("workflow.created", "a")]
