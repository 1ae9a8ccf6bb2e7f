"""Changes of runs and workers of the engine, each with the events that it sends."""

from __future__ import annotations

from tests.events.event_cases import NEW_WORKER, Expected, Resources, case, metrics, of_workflow, pool_metrics, queued

REPORT = """
from datetime import UTC, datetime
from django.db import transaction
from orchestration import services
from orchestration.services import attempt_failures, row_locks
stage_id = services.start_stage(workflow_id=workflow, stage_name="one", worker_id=worker).pk
services.report_message(stage_id, 1, message="Good morning")
services.open_stream(stage_id, 1, name="answer", content_type="text")
services.report_progress(stage_id, 1, progress=0.5, message="Half way")
report = services.StepReport(name="ask", cached=False, steps_completed=1)
step = {"name": "ask", "arguments_digest": "0", "output": "Yes", "output_bytes": 5, "report": report}
for _ in range(2):  # The second call changes nothing.
    services.store_step(stage_id, 1, **step)
services.report_step(stage_id, 1, report=services.StepReport(name="ask", cached=True, steps_completed=2))
with transaction.atomic():
    stage = row_locks.lock_stage_by_id(stage_id)
    attempt_failures.record_failure(stage, reason="lost", error="The worker was lost", at=datetime.now(UTC))
"""


@case(
    "a running stage reports, and its worker is lost",
    "workflow.stage_started",
    "workflow.stage_log",
    "workflow.stream_opened",
    "workflow.stage_progress",
    "workflow.step_completed",
    "workflow.stage_retrying",
    "workflow.stages_queued",
    "pool.status_changed",
)
def report_from_stage(resources: Resources) -> Expected:
    resources.services._driver.execute(REPORT, workflow=resources.workflow, worker=resources.worker)
    step = {"stage_name": "one", "step_name": "ask"}
    opened = {"stream_name": "answer", "attempt": 1, "content_type": "text"}
    lost = {"attempt": 1, "reason": "lost", "error": "The worker was lost", "retry_at": None, "last_attempt": 2}
    return [
        of_workflow(resources, "workflow.stage_started", stage_name="one", worker_id=resources.worker, attempt=1),
        pool_metrics(resources, idle=1, running=1),
        of_workflow(resources, "workflow.stage_log", stage_name="one", message="Good morning"),
        of_workflow(resources, "workflow.stream_opened", stage_name="one", **opened),
        of_workflow(resources, "workflow.stage_progress", stage_name="one", progress=0.5, message="Half way"),
        of_workflow(resources, "workflow.step_completed", **step, cached=False, steps_completed=1),
        of_workflow(resources, "workflow.step_completed", **step, cached=True, steps_completed=2),
        of_workflow(resources, "workflow.stage_retrying", stage_name="one", **lost),
        queued(resources, "one"),
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
    "workflow.stages_queued",
    "pool.status_changed",
)
def release_stage(resources: Resources) -> Expected:
    return released(resources, "released", "worker_stopped")


@case(
    "a running stage is released, because its worker lacks a program",
    "workflow.stage_started",
    "workflow.stage_released",
    "workflow.stages_queued",
    "pool.status_changed",
)
def release_unrunnable_stage(resources: Resources) -> Expected:
    return released(resources, "not_runnable", "not_runnable")


def released(resources: Resources, stored: str, reason: str) -> Expected:
    """Release a running stage for the reason that its attempt stores."""
    execute = resources.services._driver.execute
    execute(RELEASE, workflow=resources.workflow, worker=resources.worker, reason=stored)
    released = {"attempt": 1, "reason": reason, "retry_at": None, "last_attempt": 2}
    return [
        of_workflow(resources, "workflow.stage_started", stage_name="one", worker_id=resources.worker, attempt=1),
        pool_metrics(resources, idle=1, running=1),
        of_workflow(resources, "workflow.stage_released", stage_name="one", **released),
        queued(resources, "one"),
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
    "workflow.stages_queued",
    "workflow.held",
    "workflow.hold_ended",
    "workflow.cancelled",
    "pool.status_changed",
)
def hold_workflow(resources: Resources) -> Expected:
    names = {"workflow": resources.workflow, "worker": resources.worker, "pool": resources.pool}
    resources.services._driver.execute(HOLD, **names)
    offline = {"worker_id": resources.worker, "status": "offline", "pool_id": resources.pool, **NEW_WORKER}
    rooms = [f"workflow:{resources.workflow}", f"pool:{resources.pool}"]
    held = {"name": "", "reason": "no_worker", "pool_id": resources.pool, "needs": ""}
    return [
        ("worker.status_changed", offline, [f"worker:{resources.worker}", f"pool:{resources.pool}"]),
        pool_metrics(resources),
        queued(resources, "one"),
        pool_metrics(resources, queue=1),
        ("workflow.held", {"workflow_id": resources.workflow, **held}, rooms),
        ("workflow.hold_ended", {"workflow_id": resources.workflow, "name": "", "pool_id": resources.pool}, rooms),
        of_workflow(resources, "workflow.cancelled", name="", reason=""),
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
        ("worker.added", {**worker, **NEW_WORKER, "status": "idle", "release": "1"}, rooms),
        pool_metrics(resources, idle=2, count=2),
        ("worker.draining", worker, rooms),
        ("worker.status_changed", {**worker, **NEW_WORKER, "status": "offline", "release": "1"}, rooms),
        pool_metrics(resources, idle=1, count=2),
        ("worker.status_changed", {**worker, **NEW_WORKER, "status": "idle", "release": "2"}, rooms),
        pool_metrics(resources, idle=2, count=2),
    ]


STORE = """
from orchestration.models import Stage, Workflow
Stage.objects.create(workflow_id=workflow, name="three", position=2)
Stage.objects.get(workflow_id=workflow, name="three").delete()
Workflow.objects.get(pk=pending).delete()
"""


@case(
    "another application adds and removes rows",
    "workflow.stage_added",
    "workflow.stage_removed",
    "workflow.removed",
)
def store_without_services(resources: Resources) -> Expected:
    names = {"workflow": resources.workflow, "pending": resources.pending}
    resources.services._driver.execute(STORE, **names)
    added = {
        "position": 2,
        "step": 0,
        "last_attempt": 1,
        "total_stages": 3,
        "stages_completed": 0,
        "added_by": None,
        "moved_steps": 0,
    }
    removed = {"total_stages": 2, "stages_completed": 0}
    return [
        of_workflow(resources, "workflow.stage_added", stage_name="three", **added),
        of_workflow(resources, "workflow.stage_removed", stage_name="three", **removed),
        ("workflow.removed", {"workflow_id": resources.pending, "name": ""}, [f"workflow:{resources.pending}"]),
    ]


MOVE = """
from orchestration import services
services.reassign_workflow(workflow_id=workflow, to_pool_id=other)
worker = services.join_pool(name=name, process=name, pool_id=pool, release="1")
services.leave_pool(worker_id=worker, process=name, error="The worker was stopped")
services.join_pool(name=name, process=name, pool_id=other, release="1")
"""


@case(
    "a workflow and a worker move to another pool",
    "workflow.moved",
    "worker.added",
    "worker.moved",
    "worker.status_changed",
    "pool.status_changed",
)
def move(resources: Resources) -> Expected:
    name = f"{resources.worker}.moves"
    names = {"workflow": resources.workflow, "pool": resources.pool, "other": resources.other_pool, "name": name}
    resources.services._driver.execute(MOVE, **names)
    moved = {"pool_id": resources.other_pool, "from_pool_id": resources.pool}
    here, there = f"pool:{resources.pool}", f"pool:{resources.other_pool}"
    worker = {"worker_id": f"{name}-1", **NEW_WORKER, "release": "1"}
    other_status = {"pool_id": resources.other_pool, "status": metrics(idle=2, count=2)}
    other_metrics = ("pool.status_changed", other_status, [there])
    return [
        of_workflow(resources, "workflow.moved", name="", **moved),
        ("worker.added", {**worker, "pool_id": resources.pool, "status": "idle"}, [here]),
        pool_metrics(resources, idle=2, count=2),
        ("worker.status_changed", {**worker, "pool_id": resources.pool, "status": "offline"}, [here]),
        pool_metrics(resources, idle=1, count=2),
        ("worker.moved", {"worker_id": f"{name}-1", **moved}, [there, here]),
        ("worker.status_changed", {**worker, "pool_id": resources.other_pool, "status": "idle"}, [there]),
        # In the order of the ids of the pools.
        *sorted([pool_metrics(resources, idle=1), other_metrics], key=lambda event: event[2]),
    ]
