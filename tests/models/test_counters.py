"""Counters equal a recount after any changes in any order."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration import services
from orchestration.models import Pool, Stage, StageStatus, Worker, WorkerStatus, Workflow, WorkflowStatus
from tests.models.counter_audit import assert_workflows_add_up, counted, gauges, stored

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

POOLS = ("p0", "p1")
WORKERS = ("w0", "w1", "w2")
WORKFLOWS = ("f0", "f1", "f2")
STAGES = ("s0", "s1", "s2")


class RollBack(Exception):
    """Raised to roll a transaction back."""


class Rows:
    """A few rows with unique ids, and every way to change them."""

    def __init__(self) -> None:
        self.prefix = uuid.uuid4().hex
        for pool in POOLS:
            services.create_pool(pool_id=self.id(pool))
        pools = (*POOLS, None)
        for pool_name, workflow in zip(pools, WORKFLOWS, strict=True):
            services.create_workflow(
                workflow_id=self.id(workflow),
                adapter="python",
                prompt="",
                stages=STAGES,
                pool_id=pool_name and self.id(pool_name),
            )

    def id(self, name: str) -> str:
        return f"{self.prefix}-{name}"

    def call_service(self, operation: str, pool: str, worker: str, workflow: str, stage: str) -> None:
        of_stage: dict[str, Any] = {"workflow_id": self.id(workflow), "stage_name": stage}
        worker_id, pool_id = self.id(worker), self.id(pool)
        calls: dict[str, Callable[[], Any]] = {
            "register": lambda: services.register_worker(worker_id=worker_id, pool_id=pool_id),
            "remove": lambda: services.remove_worker(worker_id=worker_id),
            "start workflow": lambda: services.start_workflow(workflow_id=self.id(workflow)),
            "queue": lambda: services.queue_stage(**of_stage),
            "start": lambda: services.start_stage(**of_stage),
            "start on worker": lambda: services.start_stage(**of_stage, worker_id=worker_id),
            "complete": lambda: services.complete_stage(**of_stage),
            "fail": lambda: services.fail_stage(**of_stage, error=""),
            "skip": lambda: services.skip_stage(**of_stage),
            "complete workflow": lambda: services.complete_workflow(workflow_id=self.id(workflow)),
            "fail workflow": lambda: services.fail_workflow(workflow_id=self.id(workflow), error=""),
            "cancel workflow": lambda: services.cancel_workflow(workflow_id=self.id(workflow)),
            "time out workflow": lambda: services.time_out_workflow(workflow_id=self.id(workflow)),
            "drain": lambda: services.drain_pool(pool_id=pool_id),
            "reopen": lambda: services.reopen_pool(pool_id=pool_id),
            "close": lambda: services.close_pool(pool_id=pool_id),
        }
        if operation in WorkerStatus.values:
            services.change_worker_status(worker_id=worker_id, status=operation)
        else:
            calls[operation]()

    def save(self, operation: str, pool: str, worker: str, workflow: str, stage: str) -> None:
        kind, _, value = operation.partition(" ")
        match kind:
            case "stage":
                self._set(Stage.objects.filter(workflow_id=self.id(workflow), name=stage), status=value)
            case "worker":
                self._set(Worker.objects.filter(pk=self.id(worker)), status=value)
            case "workflow":
                self._set(Workflow.objects.filter(pk=self.id(workflow)), status=value)
            case "move-worker":
                self._set(Worker.objects.filter(pk=self.id(worker)), pool_id=self.id(pool))
            case "move-workflow":
                self._set(Workflow.objects.filter(pk=self.id(workflow)), pool_id=self.id(pool))
            case "move-stage":
                self._set(Stage.objects.filter(workflow_id=self.id(workflow), name=stage), pool_id=self.id(pool))
            case "delete-stage":
                Stage.objects.filter(workflow_id=self.id(workflow), name=stage).delete()
            case "delete-worker":
                Worker.objects.filter(pk=self.id(worker)).delete()

    def _set(self, rows: Any, **values: str) -> None:
        for row in rows:
            for name, value in values.items():
                setattr(row, name, value)
            row.save()


SERVICES = [
    "register",
    "remove",
    "start workflow",
    "queue",
    "start",
    "start on worker",
    "complete",
    "fail",
    "skip",
    "complete workflow",
    "fail workflow",
    "cancel workflow",
    "time out workflow",
    "drain",
    "reopen",
    "close",
    *WorkerStatus.values,
]
SAVES = [
    *(f"stage {status}" for status in StageStatus.values),
    *(f"worker {status}" for status in WorkerStatus.values),
    *(f"workflow {status}" for status in WorkflowStatus.values),
    "move-worker",
    "move-workflow",
    "move-stage",
    "delete-stage",
    "delete-worker",
]
# With equal probabilities most workflows would end early.
FREQUENT = ["register", "start workflow", "queue", "start", "complete", "fail", "busy", "idle"]


def steps(operations: list[str]) -> st.SearchStrategy[list[tuple[str, str, str, str, str, bool]]]:
    """Generate sequences of operations, each with its rows and whether it is rolled back."""
    step = st.tuples(
        st.sampled_from(operations),
        st.sampled_from(POOLS),
        st.sampled_from(WORKERS),
        st.sampled_from(WORKFLOWS),
        st.sampled_from(STAGES),
        st.sampled_from([False, False, False, True]),
    )
    return st.lists(step, max_size=40)


with_examples = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@with_examples
@given(steps([*SERVICES, *FREQUENT]))
def test_counters_equal_a_recount_after_any_sequence_of_services(
    sequence: list[tuple[str, str, str, str, str, bool]],
) -> None:
    rows = Rows()
    for operation, *rest, roll_back in sequence:
        try:
            with transaction.atomic():
                rows.call_service(operation, *rest)
                if roll_back:
                    raise RollBack
        except (services.ServiceError, RollBack):
            pass
    for pool in POOLS:
        assert stored(rows.id(pool)) == counted(rows.id(pool))
    assert_workflows_add_up()


@with_examples
@given(steps([*SERVICES, *FREQUENT, *SAVES]))
def test_current_counters_equal_a_recount_after_plain_saves_too(
    sequence: list[tuple[str, str, str, str, str, bool]],
) -> None:
    rows = Rows()
    for operation, *rest, roll_back in sequence:
        # A closed pool rejects work even from a plain save: another test covers that.
        if operation == "close":
            continue
        try:
            with transaction.atomic():
                (rows.call_service if operation in SERVICES else rows.save)(operation, *rest)
                if roll_back:
                    raise RollBack
        except (services.ServiceError, RollBack):
            pass
    for pool in POOLS:
        assert gauges(stored(rows.id(pool))) == gauges(counted(rows.id(pool)))
    assert_workflows_add_up()


@with_examples
@given(st.lists(st.sampled_from(STAGES), max_size=12))
def test_totals_never_go_down(names: list[str]) -> None:
    rows = Rows()
    services.start_workflow(workflow_id=rows.id("f0"))
    totals = [0]
    for name in names:
        stage = Stage.objects.get(workflow_id=rows.id("f0"), name=name)
        again = stage.status == StageStatus.COMPLETED
        stage.status = StageStatus.PENDING if again else StageStatus.COMPLETED
        stage.save()
        totals.append(Pool.objects.get(pk=rows.id("p0")).tasks_completed)
        assert totals[-1] == totals[-2] + (not again)
