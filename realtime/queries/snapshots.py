"""Snapshots: the state of a channel's resource, for clients that subscribe with `snapshot: true`."""

from __future__ import annotations

from typing import Any

from orchestration.models import FINISHED_WORKFLOW_STATUSES, Pool, Stage, Worker, Workflow, WorkflowStatus
from realtime.events.types.pool import PoolMetrics
from realtime.protocol.channels import split_channel

MAX_SNAPSHOT_ROWS = 100
"""Maximum number of unfinished workflows, and of pools, in the snapshot of `global`. The newest come first."""

_UNFINISHED = [status for status in WorkflowStatus.values if status not in FINISHED_WORKFLOW_STATUSES]


def read_snapshot(channel: str) -> dict[str, Any] | None:
    """Return the state of a channel's resource, JSON-encodable; None if the resource does not exist."""
    resource_type, resource_id = split_channel(channel)
    return _SNAPSHOTS[resource_type](resource_id)


def _workflow(workflow_id: str) -> dict[str, Any] | None:
    workflow = Workflow.objects.filter(pk=workflow_id).first()
    if workflow is None:
        return None
    stages = Stage.objects.filter(workflow_id=workflow_id).order_by("position")
    return {
        **_workflow_summary(workflow),
        "adapter": workflow.adapter,
        "prompt": workflow.prompt,
        "result": workflow.result,
        "error": workflow.error,
        "stages": [
            {
                "stage_name": stage.name,
                "status": stage.status,
                "worker_id": stage.worker_id,
                "duration_ms": stage.duration_ms,
                "error": stage.error,
            }
            for stage in stages
        ],
    }


def _workflow_summary(workflow: Workflow) -> dict[str, Any]:
    return {
        "workflow_id": workflow.pk,
        "status": workflow.status,
        "stages_completed": workflow.stages_completed,
        "total_stages": workflow.total_stages,
        "pool_id": workflow.pool_id,
        "created_at": workflow.created_at,
        "started_at": workflow.started_at,
        "finished_at": workflow.finished_at,
    }


def _pool(pool_id: str) -> dict[str, Any] | None:
    pool = Pool.objects.filter(pk=pool_id).first()
    if pool is None:
        return None
    workers = Worker.objects.filter(pool_id=pool_id).order_by("pk")
    return {
        **_pool_summary(pool),
        "workers": [{"worker_id": worker.pk, "status": worker.status} for worker in workers],
    }


def _pool_summary(pool: Pool) -> dict[str, Any]:
    return {"pool_id": pool.pk, "status": pool.status, "metrics": PoolMetrics.of(pool)}


def _worker(worker_id: str) -> dict[str, Any] | None:
    worker = Worker.objects.filter(pk=worker_id).first()
    if worker is None:
        return None
    return {"worker_id": worker.pk, "status": worker.status, "pool_id": worker.pool_id}


def _global(_: str) -> dict[str, Any]:
    # The index on the status keeps this fast with any number of finished workflows.
    unfinished = Workflow.objects.filter(status__in=_UNFINISHED).order_by("-created_at")
    return {
        "workflows": [_workflow_summary(workflow) for workflow in unfinished[:MAX_SNAPSHOT_ROWS]],
        "pools": [_pool_summary(pool) for pool in Pool.objects.order_by("-created_at")[:MAX_SNAPSHOT_ROWS]],
    }


_SNAPSHOTS = {"workflow": _workflow, "pool": _pool, "worker": _worker, "global": _global}
