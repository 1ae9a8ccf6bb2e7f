"""Create, start and end workflows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.utils import timezone

from orchestration import services
from orchestration.models import Pool, Stage, Workflow, WorkflowStatus
from orchestration.signals import workflow_created
from tests.models.counter_audit import assert_all_add_up
from tests.services.builders import pool_with, workflow_with
from tests.services.signal_recorder import RecordedSignal

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

NOON = datetime(2026, 2, 10, 12, 0, 0, tzinfo=UTC)


def stage_statuses() -> dict[str, str]:
    return dict(Stage.objects.order_by("position").values_list("name", "status"))


def test_create_workflow_stores_a_pending_workflow_with_its_stages_in_order(recorded: list[RecordedSignal]) -> None:
    pool_with()
    recorded.clear()
    workflow = services.create_workflow(
        workflow_id="wf",
        adapter="llamaindex",
        prompt="Write code",
        stages=["plan", "write", "check"],
        pool_id="pool",
        params={"depth": (1, 2)},
        at=NOON,
    )
    stored = Workflow.objects.get()
    for found in (workflow, stored):
        assert (found.id, found.adapter, found.prompt, found.params) == (
            "wf",
            "llamaindex",
            "Write code",
            {"depth": [1, 2]},
        )
        assert (found.pool_id, found.status, found.total_stages, found.stages_completed) == ("pool", "pending", 3, 0)
        assert (found.created_at, found.updated_at, found.started_at, found.finished_at) == (NOON, NOON, None, None)
        assert (found.result, found.error) == (None, "")
    stages = Stage.objects.order_by("position").values_list("position", "name", "status", "pool_id", "attempt")
    assert list(stages) == [
        (0, "plan", "pending", "pool", 0),
        (1, "write", "pending", "pool", 0),
        (2, "check", "pending", "pool", 0),
    ]
    assert recorded == [RecordedSignal("workflow_created", "wf", "pending", NOON)]


def test_create_workflow_generates_a_unique_id() -> None:
    ids = {workflow_with(workflow_id=id, pool_id=None).id for id in ("a", "b")}
    generated = {services.create_workflow(adapter="python", prompt="", stages=["one"]).id for _ in range(2)}
    assert len(ids | generated) == 4
    assert all(id.startswith("wf_") and len(id) == 35 for id in generated)


def test_receiver_of_workflow_created_finds_the_stages() -> None:
    found: list[int] = []

    def count(*, workflow: Workflow, **_: Any) -> None:
        found.append(workflow.stages.count())

    workflow_created.connect(count)  # The fixture disconnects it.
    workflow_with(WorkflowStatus.PENDING)
    assert found == [3]


def test_create_workflow_rejects_an_existing_id() -> None:
    workflow_with()
    for stages in (["one", "two", "three"], ["other"]):
        with pytest.raises(services.AlreadyExists, match=r"^Workflow wf already exists\.$"):
            services.create_workflow(workflow_id="wf", adapter="python", prompt="", stages=stages)
    assert stage_statuses() == {"one": "pending", "two": "pending", "three": "pending"}


def test_create_workflow_rejects_an_existing_id_without_stages() -> None:
    workflow_with()
    Stage.objects.all().delete()
    with pytest.raises(services.AlreadyExists):
        services.create_workflow(workflow_id="wf", adapter="python", prompt="", stages=["new"])
    assert stage_statuses() == {}


@pytest.mark.parametrize("status", ["draining", "closed"])
def test_inactive_pool_accepts_no_new_workflows(status: str) -> None:
    pool_with(status)
    with pytest.raises(services.PoolNotAccepting) as error:
        workflow_with()
    assert str(error.value) == f"Pool pool is {status} and accepts no new workflows."
    assert not Workflow.objects.exists()
    assert not Stage.objects.exists()


def test_create_workflow_names_an_unknown_pool() -> None:
    with pytest.raises(services.PoolNotFound, match=r"^Pool nowhere not found\.$"):
        services.create_workflow(adapter="python", prompt="", stages=["one"], pool_id="nowhere")
    assert not Workflow.objects.exists()


def test_start_workflow_sends_a_signal_with_its_time(recorded: list[RecordedSignal]) -> None:
    workflow_with(WorkflowStatus.PENDING)
    recorded.clear()
    workflow = services.start_workflow(workflow_id="wf", at=NOON)
    assert recorded == [RecordedSignal("workflow_started", "wf", "running", NOON)]
    assert workflow.started_at == workflow.updated_at == Workflow.objects.get().started_at == NOON


def test_complete_workflow_adds_the_duration_and_skips_unfinished_stages(recorded: list[RecordedSignal]) -> None:
    workflow_with(WorkflowStatus.PENDING)
    services.start_workflow(workflow_id="wf", at=NOON)
    services.complete_stage(workflow_id="wf", stage_name="one", result={})
    services.queue_stage(workflow_id="wf", stage_name="two")
    recorded.clear()
    at = NOON + timedelta(milliseconds=5000)
    workflow = services.complete_workflow(workflow_id="wf", result={"final_output": "Done"}, at=at)
    stored = Workflow.objects.get()
    assert workflow.result == stored.result == {"final_output": "Done", "total_duration_ms": 5000}
    assert workflow.finished_at == stored.finished_at == at
    assert stage_statuses() == {"one": "completed", "two": "skipped", "three": "skipped"}
    assert set(Stage.objects.filter(status="skipped").values_list("finished_at", flat=True)) == {at}
    assert recorded == [
        RecordedSignal("workflow_completed", "wf", "completed", at),
        RecordedSignal("pool_metrics_changed", "pool", "active", at),
    ]
    assert_all_add_up()


def test_complete_workflow_keeps_a_given_duration() -> None:
    workflow_with()
    workflow = services.complete_workflow(workflow_id="wf", result={"total_duration_ms": 7})
    assert workflow.result == {"total_duration_ms": 7}


def test_duration_is_zero_if_clock_skew_makes_it_negative() -> None:
    workflow_with(WorkflowStatus.PENDING)
    services.start_workflow(workflow_id="wf", at=NOON)
    workflow = services.complete_workflow(workflow_id="wf", at=NOON - timedelta(seconds=60))
    assert workflow.result == {"total_duration_ms": 0}


@pytest.mark.parametrize(
    ("end", "given", "status", "signal", "error"),
    [
        (services.fail_workflow, {"error": "It broke"}, "failed", "workflow_failed", "It broke"),
        (services.time_out_workflow, {}, "timeout", "workflow_failed", "Execution timeout"),
        (services.time_out_workflow, {"error": "Too slow"}, "timeout", "workflow_failed", "Too slow"),
        (services.cancel_workflow, {}, "cancelled", "workflow_cancelled", ""),
        (services.cancel_workflow, {"reason": "Not needed"}, "cancelled", "workflow_cancelled", "Not needed"),
    ],
)
def test_unsuccessful_end_cancels_unfinished_stages(
    end: Any, given: dict[str, str], status: str, signal: str, error: str, recorded: list[RecordedSignal]
) -> None:
    workflow_with(stages=["done", "broken", "running", "queued", "pending"])
    services.complete_stage(workflow_id="wf", stage_name="done", result={})
    services.fail_stage(workflow_id="wf", stage_name="broken", error="")
    services.start_stage(workflow_id="wf", stage_name="running")
    services.queue_stage(workflow_id="wf", stage_name="queued")
    recorded.clear()
    end(workflow_id="wf", at=NOON, **given)
    workflow = Workflow.objects.get()
    assert (workflow.status, workflow.error, workflow.finished_at) == (status, error, NOON)
    assert stage_statuses() == {
        "done": "completed",
        "broken": "failed",
        "running": "cancelled",
        "queued": "cancelled",
        "pending": "cancelled",
    }
    assert recorded == [
        RecordedSignal(signal, "wf", status, NOON),
        RecordedSignal("pool_metrics_changed", "pool", "active", NOON),
    ]
    assert_all_add_up()


def test_cancel_workflow_does_not_change_other_workflows() -> None:
    workflow_with(workflow_id="other")
    services.queue_stage(workflow_id="other", stage_name="one")
    workflow_with(workflow_id="wf")
    services.cancel_workflow(workflow_id="wf")
    assert Pool.objects.get().queue_size == 1
    assert set(Stage.objects.filter(workflow_id="other").values_list("status", flat=True)) == {"queued", "pending"}
    assert_all_add_up()


def test_workflow_runs_without_a_pool() -> None:
    workflow_with(pool_id=None)
    services.queue_stage(workflow_id="wf", stage_name="one")
    services.start_stage(workflow_id="wf", stage_name="one")
    services.complete_stage(workflow_id="wf", stage_name="one", result={})
    services.complete_workflow(workflow_id="wf")
    assert_all_add_up()


def test_time_of_a_change_defaults_to_now() -> None:
    before = timezone.now()
    workflow = workflow_with(WorkflowStatus.COMPLETED)
    assert workflow.started_at is not None
    assert workflow.finished_at is not None
    assert before <= workflow.created_at <= workflow.started_at <= workflow.finished_at <= timezone.now()


def test_unknown_workflow_is_named() -> None:
    for change in (
        services.start_workflow,
        services.complete_workflow,
        services.cancel_workflow,
        services.time_out_workflow,
    ):
        with pytest.raises(services.WorkflowNotFound, match=r"^Workflow nowhere not found\.$"):
            change(workflow_id="nowhere")
    with pytest.raises(services.WorkflowNotFound):
        services.fail_workflow(workflow_id="nowhere", error="")
