"""Create pools, workers, workflows and stages in a given status, through the services."""

from __future__ import annotations

from collections.abc import Sequence

from orchestration import services
from orchestration.models import Pool, PoolStatus, Stage, StageStatus, Worker, WorkerStatus, Workflow, WorkflowStatus


def pool_with(status: str = PoolStatus.ACTIVE, *, pool_id: str = "pool") -> Pool:
    pool = services.create_pool(pool_id=pool_id)
    if status == PoolStatus.DRAINING:
        pool = services.drain_pool(pool_id=pool_id)
    if status == PoolStatus.CLOSED:
        pool = services.close_pool(pool_id=pool_id)
    return pool


def worker_with(status: str = WorkerStatus.IDLE, *, worker_id: str = "worker", pool_id: str = "pool") -> Worker:
    if not Pool.objects.filter(pk=pool_id).exists():
        pool_with(pool_id=pool_id)
    worker = services.register_worker(worker_id=worker_id, pool_id=pool_id)
    if status != WorkerStatus.IDLE:
        worker = services.change_worker_status(worker_id=worker_id, status=status)
    return worker


def workflow_with(
    status: str = WorkflowStatus.RUNNING,
    *,
    workflow_id: str = "wf",
    stages: Sequence[str] = ("one", "two", "three"),
    pool_id: str | None = "pool",
) -> Workflow:
    if pool_id is not None and not Pool.objects.filter(pk=pool_id).exists():
        pool_with(pool_id=pool_id)
    workflow = services.create_workflow(
        workflow_id=workflow_id, adapter="python", prompt="Write code", stages=stages, pool_id=pool_id
    )
    if status != WorkflowStatus.PENDING:
        workflow = services.start_workflow(workflow_id=workflow_id)
    match status:
        case WorkflowStatus.COMPLETED:
            workflow = services.complete_workflow(workflow_id=workflow_id)
        case WorkflowStatus.FAILED:
            workflow = services.fail_workflow(workflow_id=workflow_id, error="It broke")
        case WorkflowStatus.CANCELLED:
            workflow = services.cancel_workflow(workflow_id=workflow_id)
        case WorkflowStatus.TIMEOUT:
            workflow = services.time_out_workflow(workflow_id=workflow_id)
    return workflow


def stage_with(status: str = StageStatus.PENDING, *, pool_id: str | None = "pool") -> Stage:
    """Return stage "one" of workflow "wf". The workflow is running, or cancelled for a cancelled stage."""
    workflow_with(WorkflowStatus.RUNNING, pool_id=pool_id)
    match status:
        case StageStatus.QUEUED:
            services.queue_stage(workflow_id="wf", stage_name="one")
        case StageStatus.RUNNING:
            services.start_stage(workflow_id="wf", stage_name="one")
        case StageStatus.WAITING:
            Stage.objects.filter(workflow="wf", name="one").update(status=status)
        case StageStatus.COMPLETED:
            services.complete_stage(workflow_id="wf", stage_name="one")
        case StageStatus.FAILED:
            services.fail_stage(workflow_id="wf", stage_name="one", error="It broke")
        case StageStatus.SKIPPED:
            services.skip_stage(workflow_id="wf", stage_name="one")
        case StageStatus.CANCELLED:
            services.cancel_workflow(workflow_id="wf")
    return Stage.objects.select_related("workflow", "pool").get(workflow_id="wf", name="one")
