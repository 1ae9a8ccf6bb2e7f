"""What a watcher sees of a stage that waits for sub-runs: their ids and their number, in its event and in its state."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.utils import timezone

from orchestration import services
from orchestration.models import Stage, StageStatus, Wait
from orchestration.models.child_runs import MAX_LISTED_AWAITED
from realtime.eventlog.position import current_position
from realtime.models import Event
from realtime.queries.stage_pages import StageQuery, read_stage_page
from tests.services.broker_worker import BrokerWorker
from tests.services.sub_run_trees import empty_queues, start_children

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("valkey")]


@pytest.fixture(autouse=True)
def log(db: None) -> None:
    """Make the log: a read inside of a transaction cannot. No other test has left messages for the workers."""
    current_position()
    empty_queues()


def shown() -> dict[str, Any]:
    """Return what the state of the waiting stage has of sub-runs and waits."""
    page = read_stage_page(StageQuery(workflow_id="parent", statuses=(), after=None, limit=1), max_bytes=100_000)
    assert page is not None
    (stage,) = json.loads(page.stages)
    return {name: stage[name] for name in ("status", "waits_for_runs", "waits_for_count", "wait") if name in stage}


def status_events() -> list[dict[str, Any]]:
    """Return the data of the events about the status of the stages of the parent."""
    events = Event.objects.filter(name="workflow.stage_status_changed", rooms__room="workflow:parent").order_by("seq")
    return [json.loads(data) for data in events.values_list("data", flat=True)]


def test_waiting_stage_names_its_sub_runs_until_it_ends() -> None:
    _, run_ids = start_children(2)
    names = {"waits_for_runs": run_ids, "waits_for_count": 2}
    assert shown() == {"status": "waiting", **names}
    (event,) = status_events()
    assert event == {
        "timestamp": event["timestamp"],
        "workflow_id": "parent",
        "stage_name": "fan",
        "status": "waiting",
        "stages_completed": 0,
        "reason": "",
        **names,
    }
    worker = BrokerWorker(pool_id="children", name="children")
    assert worker.run_next() is not None
    assert shown() == {"status": "waiting", **names}
    assert worker.run_next() is not None
    assert shown() == {"status": "completed"}


def test_first_of_many_sub_runs_are_named_in_order() -> None:
    _, run_ids = start_children(MAX_LISTED_AWAITED + 2)
    names = {"waits_for_runs": run_ids[:MAX_LISTED_AWAITED], "waits_for_count": MAX_LISTED_AWAITED + 2}
    assert shown() == {"status": "waiting", **names}
    (event,) = status_events()
    assert {name: event[name] for name in names} == names


def test_cancelled_run_waits_for_none() -> None:
    start_children(1)
    services.cancel_workflow(workflow_id="parent")
    assert shown() == {"status": "cancelled"}


def test_stage_that_another_application_lets_wait_waits_for_no_sub_runs() -> None:
    start_children(1)
    stage = Stage.objects.get(workflow="parent", name="fan")
    for status in (StageStatus.RUNNING, StageStatus.WAITING):
        stage.status = status
        stage.save(update_fields=["status"])
    assert shown() == {"status": "waiting"}
    names = {"waits_for_runs", "waits_for_count"}
    assert [names <= event.keys() for event in status_events()] == [True, False]


def test_stage_that_waits_for_an_answer_shows_no_sub_runs_of_an_earlier_wait() -> None:
    start_children(1)
    stage = Stage.objects.get(workflow="parent", name="fan")
    assert stage.status == StageStatus.WAITING
    Wait.objects.create(workflow_id="parent", stage=stage, name="approve", kind="ask", opened_at=timezone.now())
    found = shown()
    assert found.pop("wait")["name"] == "approve"
    assert found == {"status": "waiting"}
