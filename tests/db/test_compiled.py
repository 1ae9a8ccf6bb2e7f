"""Compiled statements have the same effect as those of Django."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.db.models import F, Model, Value
from django.db.models.functions import Coalesce, Now, Upper
from django.db.models.signals import post_save, pre_save
from django.test.utils import CaptureQueriesContext

from orchestration.db.compiled import CompiledSelect, add_to_row, update_row
from orchestration.models import Pool, Stage, Worker, Workflow
from tests.services.builders import pool_with, worker_with, workflow_with

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

NOON = datetime(2026, 2, 10, 12, 0, 0, tzinfo=UTC)


def columns_of(row: Model | None) -> dict[str, Any] | None:
    return None if row is None else {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def test_compiled_select_returns_rows_with_relations_and_annotations() -> None:
    for workflow_id in ("wf_1", "wf_2"):
        workflow_with(workflow_id=workflow_id)

    def build(workflow_id: str, position: int) -> Any:
        stages = Stage.objects.select_related("workflow", "worker").annotate(name_in_capitals=Upper("name"))
        return stages.filter(workflow_id=workflow_id, position__gte=position).exclude(name="two").order_by("-position")

    select: CompiledSelect[Any] = CompiledSelect(build, str, int)
    for workflow_id, position in (("wf_1", 0), ("wf_2", 1), ("wf_2", 3)):
        expected = list(build(workflow_id, position))
        found = select.rows(workflow_id, position)
        assert [columns_of(stage) for stage in found] == [columns_of(stage) for stage in expected]
        assert [stage.name_in_capitals for stage in found] == [stage.name_in_capitals for stage in expected]
        with CaptureQueriesContext(connection) as queries:
            assert [columns_of(stage.workflow) for stage in found] == [columns_of(stage.workflow) for stage in expected]
            assert {stage.worker for stage in found} <= {None}
        assert len(queries) == 0


def test_compiled_select_binds_values_and_returns_none_without_a_row() -> None:
    pool_with(pool_id="it")
    select: CompiledSelect[Pool] = CompiledSelect(lambda pk: Pool.objects.filter(pk=pk), str)
    assert columns_of(select.row("it")) == columns_of(Pool.objects.get())
    assert select.row("it' OR 'a'='a") is None


def test_compiled_select_holds_no_connection_of_the_thread_that_compiled_it() -> None:
    stage = workflow_with(stages=["one"]).stages.get()
    select: CompiledSelect[Stage] = CompiledSelect(
        lambda pk: Stage.objects.select_related("workflow").annotate(now=Now()).filter(pk=pk), int
    )

    def compile_in_thread() -> weakref.ref[Any]:
        assert columns_of(select.row(stage.pk)) == columns_of(stage)
        connection_reference = weakref.ref(connections["default"])
        connections.close_all()
        return connection_reference

    with ThreadPoolExecutor(1) as thread:
        thread_connection = thread.submit(compile_in_thread).result()
    gc.collect()
    assert thread_connection() is None
    assert columns_of(select.row(stage.pk)) == columns_of(stage)


def test_compiled_select_takes_datetimes_and_deferred_columns() -> None:
    workflow_with()
    Workflow.objects.update(deadline_at=NOON)
    select: CompiledSelect[Workflow] = CompiledSelect(
        lambda now: Workflow.objects.filter(deadline_at__lte=now).only("pk", "deadline_at"), datetime
    )
    assert select.row(NOON - timedelta(microseconds=1)) is None
    found = select.row(NOON)
    assert found is not None
    assert (found.pk, found.deadline_at, found.get_deferred_fields() >= {"prompt"}) == ("wf", NOON, True)


def test_compiled_select_locks_rows_for_update() -> None:
    pool_with()
    select: CompiledSelect[Pool] = CompiledSelect(lambda pk: Pool.objects.select_for_update().filter(pk=pk), str)
    with transaction.atomic(), CaptureQueriesContext(connection) as queries:
        select.row("pool")
    assert ("FOR UPDATE" in queries[0]["sql"]) is (connection.vendor == "postgresql")


@pytest.mark.parametrize("build", [lambda pk: Pool.objects.all(), lambda pk: Pool.objects.filter(pk__contains=pk)])
def test_compiled_select_rejects_a_query_without_its_parameter(build: Callable[[str], Any]) -> None:
    select: CompiledSelect[Pool] = CompiledSelect(build, str)
    with pytest.raises(ValueError, match="expected each of the 1 parameters in it, unchanged"):
        select.row("pool")


def test_update_row_writes_only_the_named_columns() -> None:
    workflow = workflow_with()
    workflow.result = {"final_output": [1, None, "ä"]}
    workflow.params = {}
    workflow.deadline_at = NOON
    workflow.error = "Not to be written"
    update_row(workflow, update_fields=["result", "params", "deadline_at"], using="default")
    stored = Workflow.objects.get()
    assert (stored.result, stored.params, stored.deadline_at, stored.error) == (workflow.result, {}, NOON, "")


def test_update_row_writes_none_to_a_json_column_as_django_does() -> None:
    stage = workflow_with().stages.first()
    assert stage is not None
    stage.result = {"output": 1}
    update_row(stage, update_fields=["result"], using="default")
    stage.result = None
    update_row(stage, update_fields=["result"], using="default")
    assert Stage.objects.filter(pk=stage.pk, result__isnull=True).exists()


def test_update_row_raises_for_a_deleted_row() -> None:
    worker = worker_with()
    Worker.objects.filter(pk=worker.pk)._raw_delete("default")
    with pytest.raises(DatabaseError, match="is no longer stored; expected to update one row"):
        update_row(worker, update_fields=["status"], using="default")


def test_update_row_computes_expressions() -> None:
    workflow_with()
    workflow = Workflow.objects.get()
    workflow.total_stages = F("total_stages") + 4
    update_row(workflow, update_fields=["total_stages"], using="default")
    assert Workflow.objects.get().total_stages == 7


@pytest.mark.parametrize("signal", [pre_save, post_save])
def test_update_row_sends_the_save_signals_of_django(signal: Any) -> None:
    worker = worker_with()
    recorded: list[frozenset[str]] = []

    def receive(instance: Worker, update_fields: frozenset[str], **_: Any) -> None:
        recorded.append(update_fields)

    signal.connect(receive, sender=Worker)
    try:
        update_row(worker, update_fields=["status"], using="default")
    finally:
        signal.disconnect(receive, sender=Worker)
    update_row(worker, update_fields=["status"], using="default")
    assert recorded == [frozenset({"status"})]


def test_add_to_row_moves_counters_and_sets_columns() -> None:
    for pool_id in ("pool", "other"):
        pool_with(pool_id=pool_id)
    for _ in range(2):
        add_to_row(
            Pool,
            "pool",
            amounts={"queue_size": 3, "tasks_completed": 1},
            values={"updated_at": NOON},
            expressions=(("metrics_dirty_since", Coalesce("metrics_dirty_since", Now())),),
            using="default",
        )
    pool = Pool.objects.get(pk="pool")
    assert (pool.queue_size, pool.tasks_completed, pool.updated_at) == (6, 2, NOON)
    assert pool.metrics_dirty_since is not None
    assert Pool.objects.get(pk="other").queue_size == 0


def test_add_to_row_rejects_an_expression_with_parameters() -> None:
    with pytest.raises(ValueError, match="expected an expression without parameters"):
        add_to_row(Pool, "pool", amounts={}, values={}, expressions=(("queue_size", Value(1)),), using="default")
