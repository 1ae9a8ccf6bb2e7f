"""Arguments that cannot be stored are rejected before any write, equally on every database."""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from orchestration import services
from orchestration.models import Pool, Stage, Worker, Workflow
from orchestration.services.validation import MAX_JSON_DEPTH
from tests.services.builders import pool_with, stage_with, workflow_with
from tests.services.signal_recorder import RecordedSignal

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

BAD_IDENTIFIERS = ["", " ", "a b", "a/b", "a:b", "a\n", "\n", "é", "a" * 129, "a\x00", None, 7]
GOOD_IDENTIFIERS = ["a", "A-Z_0.9", "-", ".", "a" * 128, "wf_0123456789abcdef"]


def nested(depth: int) -> dict[str, Any]:
    """Return an object that is `depth` objects deep."""
    value: dict[str, Any] = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


BAD_OBJECTS: list[Any] = [
    [],
    "text",
    7,
    {"a": Ellipsis},
    {"a": {1, 2}},
    {"a": b"bytes"},
    {"a": float("nan")},
    {"a": float("-inf")},
    {"a": "\x00"},
    {"a\x00": 1},
    {"a": "\\\x00"},
    {"a": "\ud800"},
    {(1, 2): 1},
    nested(MAX_JSON_DEPTH + 1),
    nested(100_000),
]
GOOD_OBJECTS: list[Any] = [
    {"a": "\\u0000"},
    {"a": "\\\\u0000"},
    {"a": "\U0001f600"},
    {"a": [1, 2.5, None, True, {"b": []}]},
    {"": ""},
    {"a": 10**30},
    {"a": "\x01\x1f\u2028"},
    nested(MAX_JSON_DEPTH),
]
BAD_STAGES: list[Any] = [[], (), "one", None, [""], [" "], ["a", "a"], ["a" * 129], ["a\x00"], ["\ud800"], [1]]


@pytest.mark.parametrize("id", BAD_IDENTIFIERS, ids=repr)
def test_create_rejects_an_invalid_id(id: Any, recorded: list[RecordedSignal]) -> None:
    pool_with()
    recorded.clear()
    with pytest.raises(services.InvalidIdentifier, match=r"^pool_id is .*; expected 1 to 128 of the characters"):
        services.create_pool(pool_id=id)
    with pytest.raises(services.InvalidIdentifier, match=r"^worker_id is "):
        services.register_worker(worker_id=id, pool_id="pool")
    if id is not None:  # None generates an id.
        with pytest.raises(services.InvalidIdentifier, match=r"^workflow_id is "):
            services.create_workflow(workflow_id=id, adapter="python", prompt="", stages=["one"])
    assert (Pool.objects.count(), Worker.objects.count(), Workflow.objects.count()) == (1, 0, 0)
    assert recorded == []


@pytest.mark.parametrize(
    "change",
    [
        lambda id: services.drain_pool(pool_id=id),
        lambda id: services.reopen_pool(pool_id=id),
        lambda id: services.close_pool(pool_id=id),
        lambda id: services.register_worker(worker_id="worker", pool_id=id),
        lambda id: services.change_worker_status(worker_id=id, status="idle"),
        lambda id: services.remove_worker(worker_id=id),
        lambda id: services.create_workflow(adapter="python", prompt="", stages=["one"], pool_id=id),
        lambda id: services.start_workflow(workflow_id=id),
        lambda id: services.queue_stage(workflow_id=id, stage_name="one"),
        lambda id: services.start_stage(workflow_id="wf", stage_name="one", worker_id=id),
    ],
)
@pytest.mark.parametrize("id", ["a b", "a\x00", "", 7], ids=repr)
def test_change_rejects_an_invalid_id_instead_of_reporting_not_found(change: Callable[[Any], Any], id: Any) -> None:
    workflow_with()
    with pytest.raises(services.InvalidIdentifier):
        change(id)


def test_stage_name_with_nul_is_rejected() -> None:
    workflow_with()
    with pytest.raises(services.InvalidArgument, match=r"^stage_name is "):
        services.queue_stage(workflow_id="wf", stage_name="one\x00")


@pytest.mark.parametrize("id", GOOD_IDENTIFIERS)
def test_valid_id_is_stored_unchanged(id: str) -> None:
    services.create_pool(pool_id=id)
    services.register_worker(worker_id=id, pool_id=id)
    services.create_workflow(workflow_id=id, adapter="python", prompt="", stages=["one"], pool_id=id)
    assert Pool.objects.get().id == Worker.objects.get().id == Workflow.objects.get().id == id


@pytest.mark.parametrize("stages", BAD_STAGES, ids=repr)
def test_invalid_stage_names_are_rejected(stages: Any) -> None:
    with pytest.raises(services.InvalidArgument, match=r"^stages is .*; expected "):
        services.create_workflow(adapter="python", prompt="", stages=stages)
    assert not Workflow.objects.exists()


@pytest.mark.parametrize("adapter", ["", " ", "a" * 129, "a\x00", None], ids=repr)
def test_invalid_adapter_name_is_rejected(adapter: Any) -> None:
    with pytest.raises(services.InvalidArgument, match=r"^adapter is .*; expected text of at most 128 characters, not"):
        services.create_workflow(adapter=adapter, prompt="", stages=["one"])


@pytest.mark.parametrize("text", ["\x00", "\ud800", None, 7], ids=repr)
def test_text_that_a_database_cannot_store_is_rejected(text: Any) -> None:
    workflow_with()
    with pytest.raises(services.InvalidArgument, match=r"^prompt is "):
        services.create_workflow(adapter="python", prompt=text, stages=["one"])
    with pytest.raises(services.InvalidArgument, match=r"^error is "):
        services.fail_workflow(workflow_id="wf", error=text)
    with pytest.raises(services.InvalidArgument, match=r"^error is "):
        services.time_out_workflow(workflow_id="wf", error=text)
    with pytest.raises(services.InvalidArgument, match=r"^reason is "):
        services.cancel_workflow(workflow_id="wf", reason=text)
    with pytest.raises(services.InvalidArgument, match=r"^error is "):
        services.fail_stage(workflow_id="wf", stage_name="one", error=text)
    assert set(Stage.objects.values_list("status", flat=True)) == {"pending"}


@pytest.mark.parametrize("value", BAD_OBJECTS, ids=reprlib.repr)
def test_value_that_is_not_a_json_object_is_rejected(value: Any, recorded: list[RecordedSignal]) -> None:
    workflow_with()
    recorded.clear()
    with pytest.raises(services.InvalidArgument, match=r"^params is .*; expected a JSON object"):
        services.create_workflow(adapter="python", prompt="", stages=["one"], params=value)
    with pytest.raises(services.InvalidArgument, match=r"^result is .*; expected a JSON object"):
        services.complete_stage(workflow_id="wf", stage_name="one", result=value)
    with pytest.raises(services.InvalidArgument, match=r"^result is .*; expected a JSON object"):
        services.complete_workflow(workflow_id="wf", result=value)
    assert Workflow.objects.get().status == "running"
    assert recorded == []


@pytest.mark.parametrize("value", GOOD_OBJECTS, ids=reprlib.repr)
def test_json_object_is_stored_unchanged(value: Any) -> None:
    stage_with()
    services.complete_stage(workflow_id="wf", stage_name="one", result=value)
    services.complete_workflow(workflow_id="wf", result=value)
    stage_result = Stage.objects.get(name="one").result
    workflow_result = Workflow.objects.get().result
    assert stage_result is not None
    assert workflow_result is not None
    assert {key: stage_result[key] for key in value} == {key: workflow_result[key] for key in value} == value


def test_time_without_a_time_zone_is_rejected() -> None:
    with pytest.raises(services.InvalidArgument, match=r"^at is .*; expected a datetime with a time zone"):
        services.create_pool(pool_id="pool", at=datetime(2026, 2, 10))
    assert not Pool.objects.exists()


def test_every_error_is_a_service_error() -> None:
    errors = [value for value in vars(services).values() if isinstance(value, type) and issubclass(value, Exception)]
    assert services.IllegalTransition in errors
    assert all(issubclass(error, services.ServiceError) for error in errors)


def test_error_truncates_a_long_value() -> None:
    with pytest.raises(services.InvalidArgument) as error:
        services.create_pool(pool_id="a" * 1000)
    assert len(str(error.value)) < 200
