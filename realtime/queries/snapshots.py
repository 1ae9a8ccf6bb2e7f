"""Snapshots: the state of a channel's resource, for clients that subscribe with `snapshot: true`."""

from __future__ import annotations

from typing import Any

from django.db.models.functions import Left

from orchestration.models import FINISHED_WORKFLOW_STATUSES, Pool, Stage, Worker, Workflow, WorkflowStatus
from orchestration.text import truncate
from realtime.events.truncation import TRUNCATED
from realtime.events.types.pool import PoolMetrics
from realtime.protocol.channels import split_channel
from realtime.queries.stage_pages import stage_counts

MAX_SNAPSHOT_ROWS = 100
"""Maximum number of unfinished workflows, and of pools, in the snapshot of `global`. The newest come first."""

_MIN_STAGE_BYTES = 64
_MIN_WORKER_BYTES = 62
"""JSON text of the shortest stage and worker, at most. More of them than fit are not read."""

_MAX_STAGE_ERROR_CHARACTERS = 4096
"""Longer errors of stages are cut, like the strings of a snapshot that is too large."""

_UNFINISHED = [status for status in WorkflowStatus.values if status not in FINISHED_WORKFLOW_STATUSES]

_HELD_FIELDS = ("held_reason", "held_needs", "held_since")

_WORKER_FIELDS = ("status", "draining", "release")

_SUMMARY_FIELDS = ("status", "stages_completed", "total_stages", "pool_id", "created_at", "started_at", "finished_at")


def read_snapshot(channel: str, *, max_bytes: int) -> dict[str, Any] | None:
    """Return the state of a channel's resource, JSON-encodable; None if the resource does not exist.

    Args:
        channel: The channel.
        max_bytes: Size to which the caller truncates the JSON text. What could not be left of it then is not read: of
            the stages those beyond `max_bytes` / 64, of a stage's error what follows 4096 characters, of a pool's
            workers those beyond `max_bytes` / 62. With the default of 64 KiB this is at most about 4 MiB, and the
            result of the workflow.
    """
    resource_type, resource_id = split_channel(channel)
    return _SNAPSHOTS[resource_type](resource_id, max_bytes)


def _workflow(workflow_id: str, max_bytes: int) -> dict[str, Any] | None:
    # Other columns, such as the parameters and the results of stages, may be large.
    workflow = (
        Workflow.objects.filter(pk=workflow_id)
        .annotate(start_of_prompt=Left("prompt", max_bytes + 1), start_of_error=Left("error", max_bytes + 1))
        .values("pk", *_SUMMARY_FIELDS, *_HELD_FIELDS, "adapter", "result", "start_of_prompt", "start_of_error")
        .first()
    )
    if workflow is None:
        return None
    stages = (
        Stage.objects.filter(workflow_id=workflow_id)
        .order_by("position")
        .annotate(start_of_error=Left("error", _MAX_STAGE_ERROR_CHARACTERS + 1))
        .values_list("name", "status", "worker_id", "duration_ms", "start_of_error")
    )[: max_bytes // _MIN_STAGE_BYTES + 1]
    is_cut = any(len(stage[-1]) > _MAX_STAGE_ERROR_CHARACTERS for stage in stages)
    return {
        **_workflow_summary(workflow),
        "adapter": workflow["adapter"],
        "prompt": workflow["start_of_prompt"],
        "result": workflow["result"],
        "error": workflow["start_of_error"],
        "stage_counts": stage_counts(workflow_id),
        "stages": [
            {
                "stage_name": name,
                "status": status,
                "worker_id": worker_id,
                "duration_ms": duration_ms,
                "error": truncate(error, _MAX_STAGE_ERROR_CHARACTERS),
            }
            for name, status, worker_id, duration_ms, error in stages
        ],
        **({TRUNCATED: True} if is_cut else {}),
    }


def _workflow_summary(workflow: dict[str, Any]) -> dict[str, Any]:
    held = {
        "reason": workflow["held_reason"],
        "needs": workflow["held_needs"],
        "since": workflow["held_since"],
    }
    summary = {field: workflow[field] for field in _SUMMARY_FIELDS}
    return {"workflow_id": workflow["pk"], **summary, "held": held if held["reason"] else None}


def _pool(pool_id: str, max_bytes: int) -> dict[str, Any] | None:
    pool = Pool.objects.filter(pk=pool_id).first()
    if pool is None:
        return None
    workers = Worker.objects.filter(pool_id=pool_id).order_by("pk").values_list("pk", *_WORKER_FIELDS)
    return {
        **_pool_summary(pool),
        "workers": [
            {"worker_id": worker_id, **dict(zip(_WORKER_FIELDS, values, strict=True))}
            for worker_id, *values in workers[: max_bytes // _MIN_WORKER_BYTES + 1]
        ],
    }


def _pool_summary(pool: Pool) -> dict[str, Any]:
    return {"pool_id": pool.pk, "status": pool.status, "metrics": PoolMetrics.of(pool)}


def _worker(worker_id: str, _: int) -> dict[str, Any] | None:
    worker = Worker.objects.filter(pk=worker_id).first()
    if worker is None:
        return None
    state = {field: getattr(worker, field) for field in _WORKER_FIELDS}
    return {"worker_id": worker.pk, "pool_id": worker.pool_id, **state}


def _global(_: str, __: int) -> dict[str, Any]:
    # The index on the status keeps this fast with any number of finished workflows.
    unfinished = (
        Workflow.objects.filter(status__in=_UNFINISHED)
        .order_by("-created_at")
        .values("pk", *_SUMMARY_FIELDS, *_HELD_FIELDS)
    )
    return {
        "workflows": [_workflow_summary(workflow) for workflow in unfinished[:MAX_SNAPSHOT_ROWS]],
        "pools": [_pool_summary(pool) for pool in Pool.objects.order_by("-created_at")[:MAX_SNAPSHOT_ROWS]],
    }


_SNAPSHOTS = {"workflow": _workflow, "pool": _pool, "worker": _worker, "global": _global}
