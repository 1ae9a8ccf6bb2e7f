"""Constraints of the database reject invalid rows, no matter which code writes them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import IntegrityError, models

from orchestration.models import (
    POOL_COUNTERS,
    EarlyAnswer,
    Pool,
    Stage,
    StageStatus,
    Wait,
    Worker,
    Workflow,
    WorkflowStatus,
)
from tests.services.builders import stage_with, worker_with

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

NOON = datetime(2026, 2, 10, 12, 0, 0, tzinfo=UTC)

INVALID: list[tuple[type[models.Model], dict[str, Any]]] = [
    (Pool, {"status": "open"}),
    (Pool, {"status": "closed", "queue_size": 1}),
    (Pool, {"status": "closed", "tasks_running": 1}),
    (Pool, {"idle_workers": 2}),
    (Pool, {"active_workers": 1}),
    *[(Pool, {name: -1}) for name in POOL_COUNTERS],
    (Worker, {"status": "asleep"}),
    (Workflow, {"status": "paused"}),
    (Workflow, {"stages_completed": 4}),
    (Workflow, {"stages_completed": -1}),
    (Workflow, {"total_stages": -1}),
    (Workflow, {"started_at": None}),
    (Workflow, {"finished_at": NOON}),
    (Workflow, {"status": "completed"}),
    (Workflow, {"status": "failed"}),
    (Workflow, {"status": "cancelled"}),
    (Workflow, {"status": "timeout"}),
    (Workflow, {"status": "completed", "finished_at": NOON, "started_at": None}),
    (Stage, {"status": "done"}),
    (Stage, {"status": "queued"}),
    (Stage, {"status": "running"}),
    (Stage, {"status": "completed"}),
    (Stage, {"status": "failed"}),
    (Stage, {"status": "skipped"}),
    (Stage, {"status": "cancelled"}),
    (Stage, {"finished_at": NOON}),
    (Stage, {"name": "two"}),
    (Stage, {"position": 1}),
    (Stage, {"position": -1}),
    (Stage, {"duration_ms": -1}),
    (Wait, {"kind": "nap"}),
    (Wait, {"status": "lost"}),
    (Wait, {"status": "answered"}),
    (Wait, {"status": "expired"}),
    (Wait, {"status": "closed", "answered_at": NOON}),
    (Wait, {"answered_at": NOON}),
    (EarlyAnswer, {"kind": "sleep"}),
]


@pytest.mark.parametrize(("model", "values"), INVALID, ids=str)
def test_database_rejects_invalid_values(model: type[models.Model], values: dict[str, Any]) -> None:
    stage = stage_with(StageStatus.PENDING)
    worker_with()
    Wait.objects.create(workflow=stage.workflow, stage=stage, name="go", kind="signal", opened_at=NOON)
    EarlyAnswer.objects.create(workflow=stage.workflow, name="go", kind="signal", answered_at=NOON)
    rows = model._default_manager.all()
    if model is Stage:
        rows = rows.filter(pk=stage.pk)
    with pytest.raises(IntegrityError):
        rows.update(**values)


@pytest.mark.parametrize("status", WorkflowStatus.values)
def test_database_accepts_every_workflow_status_with_its_times(status: str) -> None:
    stage_with()
    finished = status not in (WorkflowStatus.PENDING, WorkflowStatus.RUNNING)
    Workflow.objects.update(status=status, started_at=NOON, finished_at=NOON if finished else None)
    assert Workflow.objects.get().status == status


def test_pool_counters_lists_every_counter_column_of_a_pool() -> None:
    # A counter starts at 0; an option does not.
    integers = [field for field in Pool._meta.fields if isinstance(field, models.IntegerField)]
    assert {field.name for field in integers if field.default == 0} == set(POOL_COUNTERS)
