"""The statements of each service. Neither they nor their query plans depend on the size of the tables."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from orchestration import services
from orchestration.models import Pool, Stage, StageMap, StageStatus, Wait, Worker, WorkerStatus, Workflow
from tests.harness.query_plans import collect_statistics
from tests.services.builders import pool_with, stage_with, worker_with, workflow_with

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

Call = Callable[[], object]


def with_stage(status: str) -> Call:
    def prepare() -> None:
        stage_with(status)
        worker_with()

    return prepare


# By name: the preparation, the change, and its statements without those that begin and end the transaction.
COSTS: dict[str, tuple[Call, Call, list[str]]] = {
    "create a pool": (lambda: None, lambda: services.create_pool(pool_id="new"), ["INSERT pool"]),
    "drain a pool": (pool_with, lambda: services.drain_pool(pool_id="pool"), ["SELECT pool", "UPDATE pool"]),
    "reopen a pool": (
        lambda: pool_with("draining"),
        lambda: services.reopen_pool(pool_id="pool"),
        ["SELECT pool", "UPDATE pool"],
    ),
    "close a pool": (
        pool_with,
        lambda: services.close_pool(pool_id="pool"),
        ["SELECT pool", "SELECT stage", "SELECT wait", "SELECT stagemap", "UPDATE pool"],
    ),
    "register a worker": (
        pool_with,
        lambda: services.register_worker(worker_id="worker", pool_id="pool"),
        ["SELECT worker", "SELECT pool", "INSERT worker", "UPDATE pool"],
    ),
    "change a worker's status": (
        worker_with,
        lambda: services.change_worker_status(worker_id="worker", status="busy"),
        ["SELECT worker", "UPDATE worker", "UPDATE pool"],
    ),
    "remove a worker": (
        worker_with,
        lambda: services.remove_worker(worker_id="worker"),
        ["SELECT worker", "DELETE unmetrequirement", "DELETE worker", "UPDATE pool"],
    ),
    "create a workflow": (
        pool_with,
        lambda: services.create_workflow(adapter="python", prompt="", stages=["one", "two"], pool_id="pool"),
        ["SELECT pool", "INSERT stage", "INSERT workflow"],
    ),
    "start a workflow": (
        lambda: workflow_with("pending"),
        lambda: services.start_workflow(workflow_id="wf"),
        ["SELECT workflow", "UPDATE workflow"],
    ),
    "complete a workflow": (
        with_stage("queued"),
        lambda: services.complete_workflow(workflow_id="wf"),
        ["SELECT workflow", "UPDATE workflow", "SELECT stage", "UPDATE stage", "UPDATE pool"],
    ),
    "cancel a workflow": (
        with_stage("running"),
        lambda: services.cancel_workflow(workflow_id="wf"),
        ["SELECT workflow", "UPDATE workflow", "SELECT stage", "UPDATE stage", "UPDATE pool"],
    ),
    "queue a stage": (
        with_stage("pending"),
        lambda: services.queue_stage(workflow_id="wf", stage_name="one"),
        ["SELECT stage", "UPDATE stage", "UPDATE pool"],
    ),
    "start a stage": (
        with_stage("queued"),
        lambda: services.start_stage(workflow_id="wf", stage_name="one"),
        ["SELECT stage", "UPDATE stage", "UPDATE pool"],
    ),
    "start a stage on a worker": (
        with_stage("queued"),
        lambda: services.start_stage(workflow_id="wf", stage_name="one", worker_id="worker"),
        ["SELECT worker", "SELECT stage", "UPDATE stage", "UPDATE pool"],
    ),
    "complete a stage": (
        with_stage("running"),
        lambda: services.complete_stage(workflow_id="wf", stage_name="one"),
        ["SELECT stage", "UPDATE stage", "UPDATE workflow", "UPDATE pool"],
    ),
    "fail a stage": (
        with_stage("running"),
        lambda: services.fail_stage(workflow_id="wf", stage_name="one", error="It broke"),
        ["SELECT stage", "UPDATE stage", "UPDATE pool"],
    ),
    "skip a queued stage": (
        with_stage("queued"),
        lambda: services.skip_stage(workflow_id="wf", stage_name="one"),
        ["SELECT stage", "UPDATE stage", "UPDATE pool"],
    ),
    "skip a pending stage": (
        with_stage("pending"),
        lambda: services.skip_stage(workflow_id="wf", stage_name="one"),
        ["SELECT stage", "UPDATE stage"],
    ),
}


def statements(change: Call) -> list[str]:
    """Return the SQL of a change, without the statements of the transaction and of the writers before its commit."""
    with transaction.atomic(), CaptureQueriesContext(connection) as captured:
        change()
    return [query["sql"] for query in captured if re.match("SELECT|INSERT|UPDATE|DELETE", query["sql"])]


def summarize(statement: str) -> str:
    """Return the verb and the first table of a statement, as in "UPDATE pool"."""
    found = re.match(r'(?:SELECT .*? FROM|INSERT INTO|UPDATE|DELETE FROM) "orchestration_(\w+)"', statement)
    if found is None:
        raise AssertionError(f"No table of the engine in: {statement}")
    return f"{statement.split()[0]} {found[1]}"


def store_many_rows() -> None:
    """Store rows of the pool "pool", which does not exist yet, and of another one; roll them back before the commit.

    There are so many that no database prefers a full scan of a small table.
    """
    # Half of the ids sort before "pool": Postgres would scan an index from its start if the row came early.
    Pool.objects.bulk_create(Pool(id=f"{letter}-{number}") for letter in "az" for number in range(250))
    Pool.objects.create(pk="other")
    for pool_id in ("pool", "other"):
        Worker.objects.bulk_create(
            Worker(id=f"{pool_id}-{number}", pool_id=pool_id, status=WorkerStatus.values[number % 4])
            for number in range(500)
        )
        workflows = Workflow.objects.bulk_create(
            Workflow(id=f"{pool_id}-{number}", adapter="python", pool_id=pool_id, total_stages=3)
            for number in range(500)
        )
        stages = Stage.objects.bulk_create(
            Stage(workflow=workflow, name=name, position=position, pool_id=pool_id, status=StageStatus.PENDING)
            for workflow in workflows
            for position, name in enumerate(("one", "two", "three"))
        )
        wait = {"kind": "signal", "name": "go", "resumes": True, "opened_at": timezone.now()}
        Wait.objects.bulk_create(Wait(stage=each, workflow_id=each.workflow_id, **wait) for each in stages)
        StageMap.objects.bulk_create(StageMap(stage=each, values=[], total=1, stored=0) for each in stages)


@contextmanager
def rolled_back() -> Iterator[None]:
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@pytest.mark.parametrize(("prepare", "change", "expected"), COSTS.values(), ids=COSTS)
def test_service_executes_the_expected_statements(prepare: Call, change: Call, expected: list[str]) -> None:
    prepare()
    assert [summarize(statement) for statement in statements(change)] == expected


def test_every_service_executes_the_same_statements_without_full_scans_on_large_tables() -> None:
    with rolled_back(), connection.cursor() as cursor:
        store_many_rows()
        collect_statistics()
        for name, (prepare, change, expected) in COSTS.items():
            with rolled_back():
                prepare()
                run = statements(change)
                assert [summarize(statement) for statement in run] == expected, name
                for statement in run:
                    assert list(full_scans(cursor, statement)) == [], (name, statement)


def test_publishing_pool_metrics_takes_one_query_per_pool() -> None:
    worker_with()
    with CaptureQueriesContext(connection) as captured:
        services.change_worker_status(worker_id="worker", status="busy")
    *change, publishing = (query["sql"] for query in captured if re.match("SELECT|UPDATE", query["sql"]))
    assert list(map(summarize, change)) == ["SELECT worker", "UPDATE worker", "UPDATE pool"]
    assert re.match('SELECT "orchestration_pool".* FROM "orchestration_pool"', publishing)


@pytest.mark.parametrize("stage_count", [1, 60])
def test_cancel_workflow_takes_five_statements_for_any_number_of_stages(stage_count: int) -> None:
    names = [f"stage_{number}" for number in range(stage_count)]
    workflow_with(stages=names)
    services.queue_stage(workflow_id="wf", stage_name=names[0])
    assert len(statements(lambda: services.cancel_workflow(workflow_id="wf"))) == 5
    assert set(Stage.objects.values_list("status", flat=True)) == {"cancelled"}


def test_save_takes_one_more_query_for_each_locked_row() -> None:
    stage = stage_with()
    worker = worker_with()
    worker.status = "busy"
    assert list(map(summarize, statements(worker.save))) == ["SELECT worker", "UPDATE worker", "UPDATE pool"]
    stage.status = "queued"
    assert list(map(summarize, statements(stage.save))) == [
        "SELECT workflow",
        "SELECT stage",
        "UPDATE stage",
        "UPDATE pool",
    ]


def test_save_of_a_stage_locks_its_worker_first() -> None:
    stage = stage_with("queued")
    stage.worker = worker_with()
    assert list(map(summarize, statements(stage.save))) == [
        "SELECT worker",
        "SELECT workflow",
        "SELECT stage",
        "UPDATE stage",
    ]


def test_stages_are_locked_in_the_order_of_their_ids() -> None:
    stage_with("queued")
    run = statements(lambda: services.cancel_workflow(workflow_id="wf"))
    locking = [statement for statement in run if summarize(statement) == "SELECT stage"]
    assert len(locking) == 1
    # Django writes 1 for the primary key where it is the first selected column.
    assert all(re.search(r'ORDER BY (1|"orchestration_stage"\."id") ASC', statement) for statement in locking)


def full_scans(cursor: Any, statement: str) -> Iterator[str]:
    """Yield the steps of a query plan that scan a whole table or index."""
    if connection.vendor == "sqlite":
        cursor.execute(f"EXPLAIN QUERY PLAN {statement}")
        yield from (detail for *_, detail in cursor.fetchall() if detail.startswith("SCAN orchestration_"))
        return
    # Without sequential scans Postgres uses an index where one exists, even for a small table.
    cursor.execute("SET enable_seqscan = off")
    cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}")
    (plans,) = cursor.fetchone()
    cursor.execute("RESET enable_seqscan")
    yield from _full_scans_in((json.loads(plans) if isinstance(plans, str) else plans)[0]["Plan"])


def _full_scans_in(plan: dict[str, Any]) -> Iterator[str]:
    kind = plan["Node Type"]
    if kind == "Seq Scan" or ("Index" in kind and "Index Cond" not in plan):
        yield f"{kind} on {plan.get('Relation Name')} {plan.get('Index Name')}"
    for below in plan.get("Plans", []):
        yield from _full_scans_in(below)
