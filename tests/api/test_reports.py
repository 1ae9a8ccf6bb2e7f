"""Tests of `POST /api/v1/events`, in process."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from orchestration import services
from orchestration.models import Pool, Stage, Worker, Workflow
from realtime.api import idempotency
from realtime.api.problems import Problem
from realtime.auth.identity import EVERYONE, ON_THIS_MACHINE, Identity
from realtime.models import Event, EventRoom, StoredAnswer
from realtime.stored_answers import oldest_repeated, prune_stored_answers
from tests.api.report_calls import AIRFLOW, STARTED, event, refusal, report, report_body
from tests.harness.programs import PROJECT_DIR

pytestmark = [
    pytest.mark.both_databases,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("valkey"),
]

REFERENCE = json.loads((PROJECT_DIR / "tests/reference/messages.json").read_text(encoding="utf-8"))


def last_event(**lookups: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(Event.objects.filter(**lookups).latest("seq").data)
    return data


def reference_events() -> list[Any]:
    return [pytest.param(each, id=each["event"]) for each in REFERENCE["events"]]


@pytest.mark.parametrize("message", reference_events())
def test_report_takes_each_event_of_the_reference_as_it_is(message: dict[str, Any]) -> None:
    name, data = message["event"], message["data"]
    if name.startswith("workflow.") and name != "workflow.started":
        report(event("workflow.started", workflow_id=data["workflow_id"], adapter="llamaindex", prompt="Write code"))
    answer = report(message)
    (result,) = answer["results"]
    stored = Event.objects.get(seq=result["seq"])
    assert (result["event"], result["changed"], stored.name) == (name, True, name)
    sent = json.loads(stored.data)
    # It is long ago.
    assert sent["reported_at"] == data["timestamp"]
    assert timezone.now() - stored.timestamp < timedelta(minutes=1)
    assert sent["reported_by"] == "airflow"
    for key in data.keys() - {"timestamp", "status"}:
        assert sent[key] == data[key]
    if name == "pool.status_changed":
        assert sent["status"].items() >= data["status"].items()
    else:
        assert sent.get("status") == (data.get("status") or ("failed" if name == "workflow.failed" else None))
    assert message["room"] in EventRoom.objects.filter(event=stored).values_list("room", flat=True)


def test_report_is_answered_with_the_seq_of_each_event_in_order() -> None:
    names = ["workflow.started", "workflow.stage_started", "workflow.stage_completed", "deploy.finished"]
    answer = report(
        STARTED,
        event("workflow.stage_started", workflow_id="wf", stage_name="a"),
        event("workflow.stage_completed", workflow_id="wf", stage_name="a", result={"output": "Success"}),
        {"event": "deploy.finished", "data": {"version": 3}, "room": "workflow:wf"},
        event("workflow.started", workflow_id="wf"),
    )
    *results, repeated = answer["results"]
    assert [result["event"] for result in results] == names
    stored = dict(Event.objects.values_list("seq", "name"))
    assert [stored[result["seq"]] for result in results] == names
    assert repeated == {"event": "workflow.started", "seq": max(stored), "changed": False}
    notice = json.loads(Event.objects.get(name="deploy.finished").data)
    assert (notice["version"], notice["reported_by"], "test" in notice) == (3, "airflow", False)


def test_report_keeps_further_fields_in_the_event() -> None:
    report({**STARTED, "data": {**STARTED["data"], "dag": {"run": 7}, "test": True, "reported_by": "someone"}})
    data = last_event()
    assert (data["dag"], data["reported_by"], "test" in data) == ({"run": 7}, "airflow", False)


@pytest.mark.parametrize(("seconds", "is_kept"), [(-6 * 86400, True), (-8 * 86400, False), (50, True), (90, False)])
def test_report_keeps_a_timestamp_near_the_clock_of_the_server(seconds: int, is_kept: bool) -> None:
    stamp = timezone.now() + timedelta(seconds=seconds)
    report({**STARTED, "timestamp": stamp.isoformat()})
    stored = Event.objects.get(name="workflow.started")
    assert (stored.timestamp == stamp) == is_kept
    assert last_event().get("reported_at") == (None if is_kept else stamp.isoformat())


@pytest.mark.parametrize(
    ("item", "code", "path"),
    [
        (event("workflow.completed", workflow_id="none"), "NOT_FOUND", "events[1]"),
        (event("workflow.stage_started", workflow_id="wf", stage_name="a", worker_id="none"), "NOT_FOUND", "events[1]"),
        (event("workflow.completed", workflow_id="wf", result=[1]), "INVALID_PARAMETERS", "events[1].data.result"),
        (event("workflow.held", workflow_id="wf"), "INVALID_PARAMETERS", "events[1].event"),
        (event("session.created"), "INVALID_PARAMETERS", "events[1].event"),
        (event("no name"), "INVALID_PARAMETERS", "events[1].event"),
        ({"event": "workflow.started", "data": 3}, "INVALID_PARAMETERS", "events[1].data"),
        ({**STARTED, "timestamp": "2026-02-10T20:00:00"}, "INVALID_PARAMETERS", "events[1].timestamp"),
        (event("worker.status_changed", worker_id="w", status="gone", pool_id="p"), "INVALID_PARAMETERS", "events[1]"),
        (event("workflow.started", workflow_id="a b"), "INVALID_PARAMETERS", "events[1]"),
        ({"event": "deploy.finished", "room": "nowhere:x"}, "INVALID_PARAMETERS", "events[1].room"),
        (
            event("deploy.finished", **{f"field_{number}": 1 for number in range(5000)}),
            "INVALID_PARAMETERS",
            "events[1].data",
        ),
        (event("workflow.completed", workflow_id="wf", **{"x" * 70_000: 1}), "INVALID_PARAMETERS", "events[1].data"),
        (7, "INVALID_PARAMETERS", "events[1]"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_report_names_the_event_that_is_refused_and_stores_none(item: Any, code: str, path: str) -> None:
    problem = refusal(STARTED, item)
    assert (problem.code, [each["path"] for each in problem.errors]) == (code, [path])
    assert (Event.objects.count(), Workflow.objects.count()) == (0, 0)


def test_report_item_by_item_leaves_out_what_is_refused() -> None:
    answer = report(
        STARTED,
        event("workflow.stage_completed", workflow_id="wf", stage_name="a"),
        event("workflow.stage_started", workflow_id="wf", stage_name="a"),
        7,
        event("workflow.completed", workflow_id="wf"),
        atomic=False,
    )
    errors = [result.get("error", {}).get("code") for result in answer["results"]]
    assert errors == [None, None, "INVALID_TRANSITION", "INVALID_PARAMETERS", None]
    refused = answer["results"][2]["error"]
    assert (refused["status"], refused["current"], refused["requested"]) == (409, "completed", "running")
    assert (Workflow.objects.get().status, Stage.objects.get().status) == ("completed", "completed")


def test_report_of_a_run_of_the_engine_is_refused() -> None:
    services.create_workflow(workflow_id="wf", adapter="python", prompt="", stages=["a"])
    Workflow.objects.update(plan={"stages": []})
    problem = refusal(STARTED)
    assert (problem.code, problem.status) == ("ENGINE_OWNED", 409)


def test_report_needs_a_permission_to_put_a_run_into_a_pool_of_this_installation() -> None:
    services.create_pool(pool_id="ours")
    team = Identity(user_id="team", permissions=("event:write:team-*",))
    started = event("workflow.started", workflow_id="team-1", adapter="a", pool_id="ours")
    absent = event("workflow.started", workflow_id="team-1", adapter="a", pool_id="none")
    details = [refusal(each, identity=team).detail for each in (started, absent)]
    assert details == [f"events[0]: No permission to write pool:{pool_id}" for pool_id in ("ours", "none")]
    assert report(started)["results"][0]["changed"] is True
    report(event("pool.created", pool_id="reported"))
    report({**started, "data": {**started["data"], "workflow_id": "team-2", "pool_id": "reported"}}, identity=team)


def test_report_names_no_worker_of_the_engine() -> None:
    services.create_pool(pool_id="ours")
    services.register_worker(worker_id="engine-1", pool_id="ours")
    Worker.objects.update(process="engine")
    running = event("workflow.stage_started", workflow_id="wf", stage_name="a", worker_id="engine-1")
    assert refusal(STARTED, running).code == "ENGINE_OWNED"


def test_report_needs_the_permission_for_each_resource() -> None:
    team = Identity(user_id="team", permissions=("event:write:team-*",))
    report(event("workflow.started", workflow_id="team-1", adapter="a"), identity=team)
    others = [
        event("workflow.started", workflow_id="other", adapter="a"),
        event("worker.status_changed", worker_id="team-w", status="idle", pool_id="p"),
        event("pool.created", pool_id="team-p"),
        event("deploy.finished"),
        {"event": "deploy.finished", "room": "workflow:other"},
        event("workflow.note", workflow_id="other"),
    ]
    for other in others:
        assert refusal(other, identity=team).code == "FORBIDDEN"
        assert refusal(other, identity=EVERYONE).code == "FORBIDDEN"
    assert (Pool.objects.count(), Worker.objects.count(), Event.objects.count()) == (0, 0, 2)
    report({"event": "deploy.finished", "room": "workflow:team-1"}, identity=team)
    report(event("deploy.finished"), identity=ON_THIS_MACHINE)
    assert last_event()["reported_by"] == "local"


def test_reported_worker_that_an_application_moves_is_announced_with_its_reporter() -> None:
    report(event("worker.added", worker_id="w", pool_id="p", status="idle"))
    services.create_pool(pool_id="other")
    worker = Worker.objects.get()
    worker.pool_id = "other"
    worker.save()
    moved = last_event(name="worker.status_changed")
    assert moved["reported_by"] == "airflow", "the subscribers of its new pool know it by this event"
    worker.status = "busy"
    worker.save()
    assert "reported_by" not in last_event(name="worker.status_changed")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"{",
        b'{"event": "a", "event": "b", "data": {}}',
        b'{"event": "a", "data": {"x": NaN}}',
        b"[" * 100_000,
        rb'{"event": "\ud800", "data": {}}',
        rb'{"event": "a", "data": {"\udfff": 1}}',
        b'{"event": "a", "data": {"x": ' + b"[" * 32 + b"]" * 32 + b"}}",
    ],
)
@pytest.mark.parametrize("atomic", [True, False])
def test_report_refuses_json_that_is_not_strict(body: bytes, atomic: bool) -> None:
    with pytest.raises(Problem) as error:
        report_body(body, atomic=atomic)
    assert error.value.code == "INVALID_JSON"


@pytest.mark.parametrize("body", [b"[]", b"7", b'{"events": {}}', json.dumps([STARTED] * 1001).encode()])
def test_report_refuses_another_number_of_events(body: bytes) -> None:
    with pytest.raises(Problem) as error:
        report_body(body)
    assert error.value.code == "INVALID_PARAMETERS"


def test_request_with_the_same_key_is_answered_again_and_stored_once() -> None:
    first = report(STARTED, key="k1")
    assert report(STARTED, key="k1") == first
    assert Event.objects.filter(name="workflow.started").count() == 1
    with pytest.raises(Problem) as error:
        report(event("pool.created", pool_id="p"), key="k1")
    assert (error.value.code, error.value.status) == ("KEY_REUSED", 422)
    other = Identity(user_id="other", permissions=AIRFLOW.permissions)
    assert report(STARTED, key="k1", identity=other)["results"][0]["changed"] is False


def test_request_with_a_key_that_is_refused_can_be_repeated() -> None:
    with pytest.raises(Problem):
        report(STARTED, event("workflow.completed", workflow_id="none"), key="k1")
    assert StoredAnswer.objects.count() == 0
    assert report(STARTED, key="k1")["results"][0]["changed"] is True


def test_request_with_the_key_of_a_running_one_is_refused() -> None:
    idempotency._running.add(("airflow", "/api/v1/events", "k1"))
    try:
        with pytest.raises(Problem) as error:
            report(STARTED, key="k1")
    finally:
        idempotency._running.clear()
    assert (error.value.code, error.value.status) == ("KEY_IN_USE", 409)


@pytest.mark.parametrize("key", ["", "a b", "ä", "k" * 65])
def test_idempotency_key_has_visible_ascii_characters(key: str) -> None:
    with pytest.raises(Problem) as error:
        report(STARTED, key=key)
    assert error.value.code == "INVALID_PARAMETERS"


def test_answer_is_repeated_for_a_day() -> None:
    report(STARTED, key="k1")
    StoredAnswer.objects.update(created_at=oldest_repeated() + timedelta(minutes=1))
    assert prune_stored_answers() == 0
    assert report(STARTED, key="k1")["results"][0]["changed"] is True
    StoredAnswer.objects.update(created_at=oldest_repeated() - timedelta(minutes=1))
    assert report(STARTED, key="k1")["results"][0]["changed"] is False
    StoredAnswer.objects.update(created_at=oldest_repeated() - timedelta(minutes=1))
    assert (prune_stored_answers(), prune_stored_answers()) == (1, 0)
