"""Changes of runs and workers of the engine, each with the events that it sends."""

from __future__ import annotations

from tests.events.event_cases import Expected, Resources, case, of_workflow, pool_metrics

REPORT = """
from datetime import UTC, datetime
from django.db import transaction
from orchestration import services
from orchestration.services import attempt_failures, row_locks
stage_id = services.start_stage(workflow_id=workflow, stage_name="one", worker_id=worker).pk
services.report_message(stage_id, 1, message="Good morning")
services.report_progress(stage_id, 1, progress=0.5, message="Half way")
with transaction.atomic():
    stage = row_locks.lock_stage_by_id(stage_id)
    attempt_failures.record_failure(stage, reason="lost", error="The worker was lost", at=datetime.now(UTC))
"""


@case(
    "a running stage reports, and its worker is lost",
    "workflow.stage_started",
    "workflow.stage_log",
    "workflow.stage_progress",
    "workflow.stage_retrying",
    "pool.status_changed",
)
def report_from_stage(resources: Resources) -> Expected:
    resources.services._driver.execute(REPORT, workflow=resources.workflow, worker=resources.worker)
    lost = {"attempt": 1, "reason": "lost", "error": "The worker was lost", "retry_at": None}
    return [
        of_workflow(resources, "workflow.stage_started", stage_name="one", worker_id=resources.worker),
        pool_metrics(resources, idle=1, running=1),
        of_workflow(resources, "workflow.stage_log", stage_name="one", message="Good morning"),
        of_workflow(resources, "workflow.stage_progress", stage_name="one", progress=0.5, message="Half way"),
        of_workflow(resources, "workflow.stage_retrying", stage_name="one", **lost),
        pool_metrics(resources, idle=1, queue=1),
    ]


RELEASE = """
from datetime import UTC, datetime
from django.db import transaction
from orchestration import services
from orchestration.services import attempt_failures, row_locks
stage_id = services.start_stage(workflow_id=workflow, stage_name="one", worker_id=worker).pk
with transaction.atomic():
    stage = row_locks.lock_stage_by_id(stage_id)
    attempt_failures.record_failure(
        stage, reason=reason, error="The worker was stopped", at=datetime.now(UTC)
    )
"""


@case(
    "a running stage is released, because its worker stops",
    "workflow.stage_started",
    "workflow.stage_released",
    "pool.status_changed",
)
def release_stage(resources: Resources) -> Expected:
    return released(resources, "released", "worker_stopped")


@case(
    "a running stage is released, because its worker lacks a program",
    "workflow.stage_started",
    "workflow.stage_released",
    "pool.status_changed",
)
def release_unrunnable_stage(resources: Resources) -> Expected:
    return released(resources, "not_runnable", "not_runnable")


def released(resources: Resources, stored: str, reason: str) -> Expected:
    """Release a running stage for the reason that its attempt stores."""
    execute = resources.services._driver.execute
    execute(RELEASE, workflow=resources.workflow, worker=resources.worker, reason=stored)
    released = {"attempt": 1, "reason": reason}
    return [
        of_workflow(resources, "workflow.stage_started", stage_name="one", worker_id=resources.worker),
        pool_metrics(resources, idle=1, running=1),
        of_workflow(resources, "workflow.stage_released", stage_name="one", **released),
        pool_metrics(resources, idle=1, queue=1),
    ]


HOLD = """
from orchestration import services
services.change_worker_status(worker_id=worker, status="offline")
services.queue_stage(workflow_id=workflow, stage_name="one")
services.hold_unclaimed(pool, [workflow])
services.cancel_workflow(workflow_id=workflow)
"""


@case(
    "a pool without workers holds a workflow until its end",
    "worker.status_changed",
    "workflow.held",
    "workflow.hold_ended",
    "workflow.cancelled",
    "pool.status_changed",
)
def hold_workflow(resources: Resources) -> Expected:
    names = {"workflow": resources.workflow, "worker": resources.worker, "pool": resources.pool}
    resources.services._driver.execute(HOLD, **names)
    offline = {"worker_id": resources.worker, "status": "offline", "pool_id": resources.pool, "release": ""}
    rooms = [f"workflow:{resources.workflow}", f"pool:{resources.pool}"]
    held = {"reason": "no_worker", "pool_id": resources.pool, "needs": ""}
    return [
        ("worker.status_changed", offline, [f"worker:{resources.worker}", f"pool:{resources.pool}"]),
        pool_metrics(resources),
        pool_metrics(resources, queue=1),
        ("workflow.held", {"workflow_id": resources.workflow, **held}, rooms),
        ("workflow.hold_ended", {"workflow_id": resources.workflow, "pool_id": resources.pool}, rooms),
        of_workflow(resources, "workflow.cancelled", reason=""),
        pool_metrics(resources),
    ]


DRAIN = """
from orchestration import services
worker = services.join_pool(name=name, process=name, pool_id=pool, release="1")
services.drain_worker(worker_id=worker)
services.leave_pool(worker_id=worker, process=name, error="The worker was stopped")
services.join_pool(name=name, process=name, pool_id=pool, release="2")
"""


@case(
    "a worker drains and joins again", "worker.added", "worker.draining", "worker.status_changed", "pool.status_changed"
)
def drain_worker(resources: Resources) -> Expected:
    name = f"{resources.worker}.drains"
    resources.services._driver.execute(DRAIN, name=name, pool=resources.pool)
    worker = {"worker_id": f"{name}-1", "pool_id": resources.pool}
    rooms = [f"pool:{resources.pool}"]
    return [
        ("worker.added", {**worker, "status": "idle", "release": "1"}, rooms),
        pool_metrics(resources, idle=2, count=2),
        ("worker.draining", worker, rooms),
        ("worker.status_changed", {**worker, "status": "offline", "release": "1"}, rooms),
        pool_metrics(resources, idle=1, count=2),
        ("worker.status_changed", {**worker, "status": "idle", "release": "2"}, rooms),
        pool_metrics(resources, idle=2, count=2),
    ]
