"""Rows that are written together have the same values as rows that Django writes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, transaction

from orchestration.db.bulk import _FEW_ROWS, insert_rows, insert_values, update_rows
from orchestration.db.compiled import CompiledSelect, KeyIn
from orchestration.models import Pool, Stage, Workflow
from realtime.models import Event
from tests.services.builders import pool_with, workflow_with

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

NOON = datetime(2026, 2, 10, 12, 0, 0, 1, tzinfo=UTC)
RESULTS: list[Any] = [{"output": ["ä", None, 1.5, "\\u0000 %s"]}, {}, [], "text", 0, None]
NUMBERS = [1, _FEW_ROWS, _FEW_ROWS + 1, 150]


def columns_of(row: Any) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def new_stages(number: int) -> list[Stage]:
    return [
        Stage(
            workflow_id="wf",
            name=f"stage's %s {index}",
            position=index + 10,
            result=RESULTS[index % len(RESULTS)],
            progress=index / 7,
            hosted=index % 2 == 0,
            requirements="",
            held=False,
            started_at=NOON + timedelta(seconds=index) if index % 3 else None,
        )
        for index in range(number)
    ]


@pytest.mark.parametrize("number", NUMBERS)
def test_inserted_rows_are_stored_in_their_order_with_all_values(number: int) -> None:
    workflow_with(workflow_id="wf")
    stages = new_stages(number)
    with transaction.atomic():
        insert_rows(stages, using="default")
    assert [stage.pk for stage in stages] == sorted(stage.pk for stage in stages)
    stored = Stage.objects.filter(position__gte=10).order_by("pk")
    assert [columns_of(stage) for stage in stored] == [columns_of(stage) for stage in stages]
    assert Stage.objects.filter(position__gte=10, result__isnull=True).count() == sum(
        stage.result is None for stage in stages
    )


@pytest.mark.parametrize("number", NUMBERS)
def test_inserted_values_get_keys_in_their_order(number: int) -> None:
    message_ids = [uuid4() for _ in range(number)]
    rows = [(message_id, "shop.sold", '{"text":"é"}', NOON) for message_id in message_ids]
    with transaction.atomic():
        keys = insert_values(
            Event, ("message_id", "name", "data", "timestamp"), rows, using="default", returns_keys=True
        )
    stored = list(Event.objects.order_by("pk").values_list("pk", "message_id", "data", "timestamp"))
    expected: list[tuple[int, UUID, str, datetime]] = [
        (key, message_id, '{"text":"é"}', NOON) for key, message_id in zip(keys, message_ids, strict=True)
    ]
    assert stored == expected


@pytest.mark.parametrize("number", NUMBERS)
def test_insert_of_a_stored_key_fails(number: int) -> None:
    pool_with(pool_id="pool_0")
    with pytest.raises(IntegrityError), transaction.atomic():
        insert_rows([Pool(id=f"pool_{index}") for index in range(number)], using="default")
    assert Pool.objects.count() == 1


@pytest.mark.parametrize("number", NUMBERS)
def test_updated_rows_have_the_values_of_the_named_columns_only(number: int) -> None:
    for index in range(number):
        Workflow.objects.create(id=f"wf_{index}", adapter="python", prompt="old")
    rows = list(Workflow.objects.order_by("pk"))
    for index, row in enumerate(rows):
        row.error, row.prompt, row.result = f"It's %s {index}", "new", RESULTS[index % len(RESULTS)]
        row.deadline_at = NOON if index % 2 else None
    update_rows(rows, update_fields=frozenset({"error", "result", "deadline_at"}), using="default")
    stored = list(Workflow.objects.order_by("pk"))
    assert [(row.error, row.result, row.deadline_at) for row in stored] == [
        (row.error, row.result, row.deadline_at) for row in rows
    ]
    assert {row.prompt for row in stored} == {"old"}


def test_keys_in_an_array_select_their_rows() -> None:
    workflow = workflow_with(workflow_id="wf", stages=["a", "b", "c"])
    workflows: CompiledSelect[Workflow] = CompiledSelect(lambda ids: Workflow.objects.filter(KeyIn(ids)), str)
    stages: CompiledSelect[Stage] = CompiledSelect(lambda ids: Stage.objects.filter(KeyIn(ids)).order_by("pk"), str)
    assert [row.pk for row in workflows.rows('["wf", "it\'s %s"]')] == ["wf"]
    assert workflows.rows("[]") == []
    first, _, last = [stage.pk for stage in workflow.stages.order_by("pk")]
    assert [stage.pk for stage in stages.rows(f"[{last}, {first}, 0]")] == [first, last]
