"""Runs of the engine that begin again, or whose worker continues, each with the events that it sends."""

from __future__ import annotations

from typing import Any

from tests.events.event_cases import NEW_WORKER, Expected, Resources, case, pool_metrics
from tests.harness.matchers import A_TIME, between

PLAN = """
from orchestration.plan import Plan, StagePlan
stages = (StagePlan(name="one", step=0, call="x:y"), StagePlan(name="two", step=1, call="x:y"))
plan = Plan(name="write", adapter="python", stages=stages)
"""

STAGES = [{"stage_name": "one", "step": 0, "last_attempt": 1}, {"stage_name": "two", "step": 1, "last_attempt": 1}]


RETRY = (
    PLAN
    + """
from orchestration import services
services.start_run(plan, prompt="Hi", params={}, pool_id=pool, workflow_id=workflow)
services.cancel_workflow(workflow_id=workflow)
services.retry_run(workflow_id=workflow)
"""
)


@case(
    "a run is cancelled and retried",
    "workflow.created",
    "workflow.started",
    "workflow.stages_queued",
    "workflow.cancelled",
    "workflow.retried",
    "pool.status_changed",
)
def retry_run(resources: Resources) -> Expected:
    workflow_id = f"{resources.workflow}.run"
    resources.services._driver.execute(RETRY, workflow=workflow_id, pool=resources.pool)
    about = {"workflow_id": workflow_id, "name": "write", "adapter": "python", "prompt": "Hi"}
    run = {**about, "pool_id": resources.pool, "total_stages": 2, "deadline_at": None, "stages": STAGES}
    queued = {"workflow_id": workflow_id, "stages": ["one"], "step": None, "count": 1}
    retried = {"from_stage": None, "stages_completed": 0, "created_at": A_TIME, "started_at": A_TIME}
    return [
        ("workflow.created", {**run, "params": {}}, []),
        ("workflow.started", about, []),
        ("workflow.stages_queued", queued, []),
        pool_metrics(resources, idle=1, queue=1),
        ("workflow.cancelled", {"workflow_id": workflow_id, "name": "write", "reason": ""}, []),
        pool_metrics(resources, idle=1),
        ("workflow.retried", {**run, **retried}, []),
        ("workflow.started", about, []),
        ("workflow.stages_queued", queued, []),
        pool_metrics(resources, idle=1, queue=1),
    ]


CONTINUE = (
    PLAN
    + """
from orchestration import services
from orchestration.models import Stage
from orchestration.services.attempts import Slot
worker = services.join_pool(name=name, process=name, pool_id=pool)
slot = Slot(worker_id=worker, process=name)
services.start_run(plan, prompt="Hi", params={}, pool_id=pool, workflow_id=workflow)
one = Stage.objects.get(workflow_id=workflow, name="one")
services.claim_stage(one.pk, 1, slot=slot)
services.complete_attempt(one.pk, 1, slot=slot, output=1, continue_inline=services.nothing_missing)
"""
)


@case(
    "a worker continues with the next stage",
    "worker.added",
    "workflow.created",
    "workflow.started",
    "workflow.stages_queued",
    "workflow.stage_started",
    "worker.status_changed",
    "workflow.stage_completed",
    "worker.stage_changed",
    "pool.status_changed",
)
def continue_inline(resources: Resources) -> Expected:
    workflow_id, name = f"{resources.workflow}.run", f"{resources.worker}.continues"
    resources.services._driver.execute(CONTINUE, workflow=workflow_id, pool=resources.pool, name=name)
    about = {"workflow_id": workflow_id, "name": "write", "adapter": "python", "prompt": "Hi"}
    run = {**about, "pool_id": resources.pool, "total_stages": 2, "deadline_at": None, "stages": STAGES}
    worker = {"worker_id": f"{name}-1", "pool_id": resources.pool}
    rooms = [f"pool:{resources.pool}"]
    started = {"workflow_id": workflow_id, "worker_id": f"{name}-1", "attempt": 1}
    result = {"output": 1, "duration_ms": between(0, 60_000)}
    completed = {"result": result, "duration_ms": between(0, 60_000), "stages_completed": 1}
    busy = {**NEW_WORKER, "status": "busy", "workflow_id": workflow_id, "stage_name": "one"}
    return [
        ("worker.added", {**worker, **NEW_WORKER, "status": "idle"}, rooms),
        pool_metrics(resources, idle=2, count=2),
        ("workflow.created", {**run, "params": {}}, []),
        ("workflow.started", about, []),
        (
            "workflow.stages_queued",
            {"workflow_id": workflow_id, "stages": ["one"], "step": None, "count": 1},
            [],
        ),
        pool_metrics(resources, idle=2, count=2, queue=1),
        ("workflow.stage_started", {**started, "stage_name": "one"}, []),
        ("worker.status_changed", {**worker, **busy}, rooms),
        pool_metrics(resources, idle=1, active=1, count=2, running=1),
        ("workflow.stage_completed", {"workflow_id": workflow_id, "stage_name": "one", **completed}, []),
        ("workflow.stage_started", {**started, "stage_name": "two"}, []),
        ("worker.stage_changed", {**worker, "workflow_id": workflow_id, "stage_name": "two"}, rooms),
        pool_metrics(resources, idle=1, active=1, count=2, running=1, completed=1),
    ]


MAP = """
from orchestration import services
from orchestration.models import Stage
from orchestration.plan import Each, Plan, StagePlan
from orchestration.services.attempts import Slot
worker = services.join_pool(name=name, process=name, pool_id=pool)
slot = Slot(worker_id=worker, process=name)
stages = (StagePlan(name="embed", step=0, call="x:y", each=Each(of="files")),)
plan = Plan(name="index", adapter="python", stages=stages)
services.start_run(plan, prompt="Hi", params={}, pool_id=pool, workflow_id=workflow)
stage = Stage.objects.get(workflow_id=workflow)
services.claim_stage(stage.pk, 1, slot=slot)
services.start_map(stage.pk, 1, slot=slot, values=["a"], continue_inline=services.nothing_missing)
item = Stage.objects.get(item_of=stage)
services.complete_attempt(item.pk, 1, slot=slot, output=1)
"""


@case(
    "a stage runs once for each value of a list",
    "worker.added",
    "workflow.created",
    "workflow.started",
    "workflow.stages_queued",
    "workflow.stage_started",
    "worker.status_changed",
    "workflow.map_started",
    "worker.stage_changed",
    "workflow.stage_completed",
    "workflow.map_progress",
    "workflow.completed",
    "pool.status_changed",
)
def run_items(resources: Resources) -> Expected:
    workflow_id, name = f"{resources.workflow}.map", f"{resources.worker}.maps"
    resources.services._driver.execute(MAP, workflow=workflow_id, pool=resources.pool, name=name)
    about = {"workflow_id": workflow_id, "name": "index", "adapter": "python", "prompt": "Hi"}
    stages = [{"stage_name": "embed", "step": 0, "last_attempt": 1}]
    run: dict[str, Any] = {
        **about,
        "pool_id": resources.pool,
        "total_stages": 1,
        "deadline_at": None,
        "stages": stages,
        "params": {},
    }
    worker, rooms = {"worker_id": f"{name}-1", "pool_id": resources.pool}, [f"pool:{resources.pool}"]
    of_run, of_items = [f"workflow:{workflow_id}"], [f"workflow:{workflow_id}/embed"]
    stage = {"workflow_id": workflow_id, "stage_name": "embed"}
    item = {"workflow_id": workflow_id, "stage_name": "embed[0]", "item_of": "embed"}
    started = {"worker_id": f"{name}-1", "attempt": 1}
    duration = {"duration_ms": between(0, 60_000)}
    busy = {**NEW_WORKER, "status": "busy", **stage}
    output = {"total": 1, "completed": 1, "failed": 0}
    result = {"final_output": output, "total_duration_ms": between(0, 60_000)}
    return [
        ("worker.added", {**worker, **NEW_WORKER, "status": "idle"}, rooms),
        pool_metrics(resources, idle=2, count=2),
        ("workflow.created", run, of_run),
        ("workflow.started", about, of_run),
        ("workflow.stages_queued", {"workflow_id": workflow_id, "stages": ["embed"], "step": None, "count": 1}, of_run),
        pool_metrics(resources, idle=2, count=2, queue=1),
        ("workflow.stage_started", {**stage, **started}, of_run),
        ("worker.status_changed", {**worker, **busy}, rooms),
        pool_metrics(resources, idle=1, active=1, count=2, running=1),
        ("workflow.map_started", {**stage, "total": 1, "completed": 0, "failed": 0, "running": 0}, of_run),
        ("workflow.stage_started", {**item, **started}, of_items),
        ("worker.stage_changed", {**worker, "workflow_id": workflow_id, "stage_name": "embed[0]"}, rooms),
        (
            "workflow.stage_completed",
            {**item, "result": {"output": 1, **duration}, **duration, "stages_completed": 0},
            of_items,
        ),
        ("workflow.map_progress", {**stage, **output, "running": 0}, of_run),
        (
            "workflow.stage_completed",
            {**stage, "result": {"output": output, **duration}, **duration, "stages_completed": 1},
            of_run,
        ),
        ("workflow.completed", {"workflow_id": workflow_id, "name": "index", "result": result}, of_run),
        ("worker.status_changed", {**worker, **NEW_WORKER, "status": "idle"}, rooms),
        pool_metrics(resources, idle=2, count=2, completed=2),
    ]
