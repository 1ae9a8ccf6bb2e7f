"""Changes by services, and the events that each must cause.

Each case calls a service of another process and returns the expected events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.harness.matchers import between
from tests.harness.services import ServiceCallError, Services


@dataclass(frozen=True)
class Resources:
    """A running workflow of two stages and a pending one, in a pool with one worker; and others of the same kind."""

    services: Services
    workflow: str
    pending: str
    pool: str
    worker: str
    other_workflow: str
    other_pool: str
    other_worker: str

    @property
    def channels(self) -> list[str]:
        ids = (self.workflow, self.pending, self.pool, self.worker, self.other_workflow, self.other_pool)
        items = (f"workflow:{self.workflow}.map", f"workflow:{self.workflow}.map/embed")
        kinds = ("workflow", "pool", "worker")
        return ["global", *items, *(f"{kind}:{id}" for kind in kinds for id in (*ids, self.other_worker))]


Expected = list[tuple[str, dict[str, Any], list[str]]]
"""Events in their order: name, data without its timestamp, channels besides `global`."""

Change = Callable[[Resources], Expected]
CASES: dict[str, Change] = {}
COVERED_EVENTS: set[str] = set()


def case(name: str, *events: str) -> Callable[[Change], Change]:
    """Register a change with its name and the names of its events; the function makes it and returns what to expect."""

    def register(function: Change) -> Change:
        def change(resources: Resources) -> Expected:
            expected = function(resources)
            assert {event for event, _, _ in expected} == set(events)
            return expected

        CASES[name] = change
        COVERED_EVENTS.update(events)
        return change

    return register


def metrics(
    *,
    active: int = 0,
    idle: int = 0,
    queue: int = 0,
    completed: int = 0,
    failed: int = 0,
    running: int = 0,
    count: int = 1,
    error: int = 0,
) -> dict[str, int]:
    return {
        "active_workers": active,
        "idle_workers": idle,
        "queue_size": queue,
        "tasks_completed": completed,
        "tasks_failed": failed,
        "tasks_running": running,
        "worker_count": count,
        "error_workers": error,
    }


def of_workflow(resources: Resources, event: str, **data: Any) -> tuple[str, dict[str, Any], list[str]]:
    return event, {"workflow_id": resources.workflow, **data}, [f"workflow:{resources.workflow}"]


NEW_WORKER = {"release": "", "draining": False, "workflow_id": None, "stage_name": None}
"""What the events of a worker have that is neither drained nor runs a stage of the engine."""


def queued(resources: Resources, stage_name: str) -> tuple[str, dict[str, Any], list[str]]:
    return of_workflow(resources, "workflow.stages_queued", stages=[stage_name], step=None, count=1)


def of_pool(resources: Resources, name: str) -> tuple[str, dict[str, Any], list[str]]:
    return name, {"pool_id": resources.pool}, [f"pool:{resources.pool}"]


def pool_metrics(resources: Resources, **counted: int) -> tuple[str, dict[str, Any], list[str]]:
    return "pool.status_changed", {"pool_id": resources.pool, "status": metrics(**counted)}, [f"pool:{resources.pool}"]


def of_worker(resources: Resources, name: str, **data: Any) -> tuple[str, dict[str, Any], list[str]]:
    data = {"worker_id": resources.worker, "pool_id": resources.pool, **data}
    return name, data, [f"worker:{resources.worker}", f"pool:{resources.pool}"]


@case("a workflow is created", "workflow.created")
def create_workflow(resources: Resources) -> Expected:
    resources.services.create_workflow(
        workflow_id=f"{resources.workflow}.new",
        name="write",
        adapter="llamaindex",
        prompt="Write é",
        stages=["a", "b"],
        params={"words": 3},
    )
    data = {
        "workflow_id": f"{resources.workflow}.new",
        "name": "write",
        "adapter": "llamaindex",
        "prompt": "Write é",
        "total_stages": 2,
        "pool_id": None,
        "params": {"words": 3},
        "deadline_at": None,
        "stages": [{"stage_name": name, "step": 0, "last_attempt": 1} for name in ("a", "b")],
    }
    return [("workflow.created", data, [])]


@case("a workflow starts", "workflow.started")
def start_workflow(resources: Resources) -> Expected:
    resources.services.start_workflow(workflow_id=resources.pending)
    data = {"workflow_id": resources.pending, "name": "", "adapter": "python", "prompt": "Write code"}
    return [("workflow.started", data, [f"workflow:{resources.pending}"])]


@case("a workflow completes", "workflow.completed")
def complete_workflow(resources: Resources) -> Expected:
    result = {"final_output": "Code generated successfully", "total_duration_ms": 5000}
    resources.services.complete_workflow(workflow_id=resources.workflow, result=result)
    return [of_workflow(resources, "workflow.completed", name="", result=result)]


@case("a workflow completes without a result", "workflow.completed")
def complete_workflow_without_a_result(resources: Resources) -> Expected:
    resources.services.complete_workflow(workflow_id=resources.workflow)
    return [of_workflow(resources, "workflow.completed", name="", result={"total_duration_ms": between(0, 60_000)})]


@case("a workflow fails", "workflow.failed")
def fail_workflow(resources: Resources) -> Expected:
    resources.services.fail_workflow(workflow_id=resources.workflow, error="Out of memory")
    return [of_workflow(resources, "workflow.failed", name="", error="Out of memory", status="failed")]


@case("a workflow times out", "workflow.failed")
def time_out_workflow(resources: Resources) -> Expected:
    resources.services.time_out_workflow(workflow_id=resources.workflow)
    return [of_workflow(resources, "workflow.failed", name="", error="Execution timeout", status="timeout")]


@case("a workflow is cancelled", "workflow.cancelled")
def cancel_workflow(resources: Resources) -> Expected:
    resources.services.cancel_workflow(workflow_id=resources.workflow, reason="Not needed")
    return [of_workflow(resources, "workflow.cancelled", name="", reason="Not needed")]


@case(
    "a workflow is cancelled with a queued stage", "workflow.stages_queued", "workflow.cancelled", "pool.status_changed"
)
def cancel_workflow_with_a_queued_stage(resources: Resources) -> Expected:
    resources.services.queue_stage(workflow_id=resources.workflow, stage_name="one")
    resources.services.cancel_workflow(workflow_id=resources.workflow)
    return [
        queued(resources, "one"),
        pool_metrics(resources, idle=1, queue=1),
        of_workflow(resources, "workflow.cancelled", name="", reason=""),
        pool_metrics(resources, idle=1, queue=0),
    ]


@case("a stage starts on a worker", "workflow.stage_started", "pool.status_changed")
def start_stage(resources: Resources) -> Expected:
    resources.services.start_stage(workflow_id=resources.workflow, stage_name="one", worker_id=resources.worker)
    return [
        of_workflow(resources, "workflow.stage_started", stage_name="one", worker_id=resources.worker, attempt=1),
        pool_metrics(resources, idle=1, running=1),
    ]


@case("a stage starts on an unknown worker", "workflow.stage_started", "pool.status_changed")
def start_stage_without_a_worker(resources: Resources) -> Expected:
    resources.services.start_stage(workflow_id=resources.workflow, stage_name="two")
    return [
        of_workflow(resources, "workflow.stage_started", stage_name="two", worker_id=None, attempt=1),
        pool_metrics(resources, idle=1, running=1),
    ]


@case("a stage completes", "workflow.stage_completed", "pool.status_changed")
def complete_stage(resources: Resources) -> Expected:
    result = {"output": "Success", "duration_ms": 1500}
    counted = {"duration_ms": 1500, "stages_completed": 1}
    resources.services.complete_stage(workflow_id=resources.workflow, stage_name="one", result=result)
    return [
        of_workflow(resources, "workflow.stage_completed", stage_name="one", result=result, **counted),
        pool_metrics(resources, idle=1, completed=1),
    ]


@case("a stage fails", "workflow.stage_failed", "pool.status_changed")
def fail_stage(resources: Resources) -> Expected:
    resources.services.fail_stage(workflow_id=resources.workflow, stage_name="one", error="No")
    return [
        of_workflow(
            resources,
            "workflow.stage_failed",
            stage_name="one",
            error="No",
            duration_ms=between(0, 60_000),
            last_attempt=1,
        ),
        pool_metrics(resources, idle=1, failed=1),
    ]


@case("a stage is queued", "workflow.stages_queued", "pool.status_changed")
def queue_stage(resources: Resources) -> Expected:
    resources.services.queue_stage(workflow_id=resources.workflow, stage_name="two")
    return [queued(resources, "two"), pool_metrics(resources, idle=1, queue=1)]


@case("a stage is skipped", "workflow.stage_status_changed")
def skip_stage(resources: Resources) -> Expected:
    resources.services.skip_stage(workflow_id=resources.workflow, stage_name="one")
    skipped = {"stage_name": "one", "status": "skipped", "stages_completed": 0, "reason": ""}
    return [of_workflow(resources, "workflow.stage_status_changed", **skipped)]


@case("a worker is registered", "worker.added", "pool.status_changed")
def register_worker(resources: Resources) -> Expected:
    worker_id = f"{resources.worker}.new"
    resources.services.register_worker(worker_id=worker_id, pool_id=resources.pool)
    data = {"worker_id": worker_id, "status": "idle", "pool_id": resources.pool, **NEW_WORKER}
    return [("worker.added", data, [f"pool:{resources.pool}"]), pool_metrics(resources, idle=2, count=2)]


@case("a worker changes to every status", "worker.status_changed", "pool.status_changed")
def change_worker_status(resources: Resources) -> Expected:
    counts = {"busy": {"active": 1}, "error": {"error": 1}, "offline": {}, "idle": {"idle": 1}}
    expected = []
    for status, counted in counts.items():
        resources.services.change_worker_status(worker_id=resources.worker, status=status)
        changed = of_worker(resources, "worker.status_changed", status=status, **NEW_WORKER)
        expected += [changed, pool_metrics(resources, **counted)]
    return expected


@case("a worker is removed", "worker.removed", "pool.status_changed")
def remove_worker(resources: Resources) -> Expected:
    resources.services.remove_worker(worker_id=resources.worker)
    return [of_worker(resources, "worker.removed"), pool_metrics(resources, count=0)]


@case("a pool is created", "pool.created")
def create_pool(resources: Resources) -> Expected:
    pool_id = f"{resources.pool}.new"
    resources.services.create_pool(pool_id=pool_id)
    return [("pool.created", {"pool_id": pool_id}, [])]


@case("a pool is removed", "pool.created", "pool.removed")
def remove_pool(resources: Resources) -> Expected:
    pool_id = f"{resources.pool}.typo"
    resources.services.create_pool(pool_id=pool_id)
    resources.services.remove_pool(pool_id=pool_id)
    return [("pool.created", {"pool_id": pool_id}, []), ("pool.removed", {"pool_id": pool_id}, [])]


@case("a pool is drained, reopened, then closed", "pool.drained", "pool.reopened", "pool.closed")
def drain_reopen_and_close_pool(resources: Resources) -> Expected:
    resources.services.drain_pool(pool_id=resources.pool)
    resources.services.reopen_pool(pool_id=resources.pool)
    resources.services.close_pool(pool_id=resources.pool)
    return [of_pool(resources, "pool.drained"), of_pool(resources, "pool.reopened"), of_pool(resources, "pool.closed")]


@case("an illegal transition is rejected")
def reject_illegal_transition(resources: Resources) -> Expected:
    with pytest.raises(ServiceCallError) as error:
        resources.services.start_workflow(workflow_id=resources.workflow)
    assert error.value.class_name == "IllegalTransition"
    return []
