"""What a transaction announces is in the log if, and only if, it is committed: once, in order, as its last statements.

Whatever a test does to the database is done by the project's own services or by a plain `save()`, in this process.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from orchestration import services
from orchestration.models import Pool, Workflow
from realtime.broadcast.publisher import publisher
from realtime.events import receivers
from realtime.models import Event, EventRoom
from realtime.protocol.messages import utc_now
from realtime.protocol.payload import decode_object

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


def announced() -> list[tuple[str, str]]:
    """Each event of the log in order: its name, and what it is about."""
    return [
        (name, room.split(":")[1])
        for name, room in EventRoom.objects.filter(room__regex="^(workflow|pool):")
        .order_by("event_id")
        .values_list("event__name", "room")
    ]


def create_workflow(workflow_id: str, **given: Any) -> None:
    services.create_workflow(workflow_id=workflow_id, adapter="python", prompt="", stages=["only"], **given)


def test_a_service_by_itself_is_one_transaction() -> None:
    create_workflow("a")
    assert announced() == [("workflow.created", "a")]


def test_a_save_without_any_transaction_is_announced() -> None:
    create_workflow("a")
    workflow = Workflow.objects.get()
    workflow.status = "running"
    workflow.save()
    assert announced() == [("workflow.created", "a"), ("workflow.started", "a")]


def test_services_within_a_caller_s_transaction_are_announced_when_it_ends_and_in_order() -> None:
    with transaction.atomic():
        create_workflow("a")
        create_workflow("b")
        services.start_workflow(workflow_id="b")
        services.start_workflow(workflow_id="a")
        assert not Event.objects.exists()
    assert announced() == [
        ("workflow.created", "a"),
        ("workflow.created", "b"),
        ("workflow.started", "b"),
        ("workflow.started", "a"),
    ]
    seqs = list(Event.objects.order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(seqs[0], seqs[0] + 4))


def test_a_transaction_rolled_back_announces_nothing() -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        create_workflow("a")
        raise ZeroDivisionError
    with transaction.atomic():
        create_workflow("b")
        transaction.set_rollback(True)
    assert announced() == []
    create_workflow("c")
    assert announced() == [("workflow.created", "c")]


def test_a_savepoint_rolled_back_announces_nothing_of_what_was_done_in_it() -> None:
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
    assert announced() == [("workflow.created", "a"), ("workflow.created", "e")]


def test_a_refused_change_leaves_no_trace_in_the_transaction_around_it() -> None:
    create_workflow("a")
    with transaction.atomic():
        services.start_workflow(workflow_id="a")
        with pytest.raises(services.IllegalTransition):
            services.start_workflow(workflow_id="a")
    assert announced() == [("workflow.created", "a"), ("workflow.started", "a")]


def test_many_changes_of_a_pool_s_metrics_make_one_event_with_what_is_true_at_the_end() -> None:
    with transaction.atomic():
        for pool_id in ("p", "q"):
            services.create_pool(pool_id=pool_id)
        for number in range(5):
            services.register_worker(worker_id=f"w{number}", pool_id="p")
        services.change_worker_status(worker_id="w0", status="busy")
        services.register_worker(worker_id="other", pool_id="q")
        services.change_worker_status(worker_id="w1", status="error")
    told = Event.objects.filter(name="pool.status_changed").order_by("seq")
    data = [decode_object(event.data) for event in told]
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
    # After everything that led to it.
    assert [event.name for event in Event.objects.order_by("-seq")[:2]] == ["pool.status_changed"] * 2


def test_a_pool_that_is_gone_at_the_end_has_no_metrics_to_tell() -> None:
    with transaction.atomic():
        services.create_pool(pool_id="p")
        services.register_worker(worker_id="w", pool_id="p")
        services.remove_worker(worker_id="w")
        Pool.objects.filter(pk="p").delete()
    assert [name for name, _ in announced()] == ["pool.created", "worker.added", "worker.removed"]


def test_events_are_written_by_the_last_statements_before_the_commit() -> None:
    create_workflow("a")
    with CaptureQueriesContext(connection) as queries, transaction.atomic():
        create_workflow("b")
        create_workflow("c")
    tables = [query["sql"].split('"')[1] for query in queries if query["sql"].startswith(("INSERT", "UPDATE"))]
    assert tables[-2:] == ["realtime_event", "realtime_eventroom"]
    assert not any(table.startswith("realtime") for table in tables[:-2])


def test_what_cannot_be_written_undoes_the_change_and_is_told_to_whoever_commits() -> None:
    with pytest.raises(TypeError, match="Encoding objects of type complex"), transaction.atomic():
        create_workflow("a")
        receivers.announce_as_given("test", data={"result": 1j}, rooms=(), timestamp=utc_now())
    assert (Workflow.objects.count(), announced(), connection.in_atomic_block) == (0, [], False)
    create_workflow("b")
    assert announced() == [("workflow.created", "b")]


def test_a_database_error_while_writing_undoes_the_change() -> None:
    with pytest.raises(DatabaseError), transaction.atomic():
        create_workflow("a")
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE realtime_eventroom")
    assert (Workflow.objects.count(), announced(), connection.in_atomic_block) == (0, [], False)
    create_workflow("b")
    assert announced() == [("workflow.created", "b")]


@pytest.fixture
def by_hand() -> Iterator[None]:
    transaction.set_autocommit(False)
    yield
    transaction.rollback()
    transaction.set_autocommit(True)


@pytest.mark.usefixtures("by_hand")
def test_commits_by_hand_write_each_event_once() -> None:
    create_workflow("a")
    transaction.commit()
    create_workflow("b")
    transaction.rollback()
    create_workflow("c")
    transaction.commit()
    transaction.commit()
    assert announced() == [("workflow.created", "a"), ("workflow.created", "c")]


def test_the_push_is_made_before_other_hooks_which_may_be_slow_or_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    monkeypatch.setattr(publisher(), "publish", lambda deliveries: order.append(f"{len(deliveries)} pushes"))

    def fail() -> None:
        order.append("another hook")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), transaction.atomic():
        transaction.on_commit(fail)
        create_workflow("a")
    assert order == ["2 pushes", "another hook"]
    assert announced() == [("workflow.created", "a")]
