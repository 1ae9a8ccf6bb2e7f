"""Snapshots: the state of a channel's resource, for clients that subscribe with `snapshot: true`.

A snapshot, changed as the later events of its channel say, equals the next snapshot. So ids are sorted here too, by
code points: a database may sort them as a language does.
"""

from __future__ import annotations

from operator import attrgetter, itemgetter
from typing import Any

from django.db.models import TextField
from django.db.models.functions import Cast, Left

from orchestration.models import FINISHED_WORKFLOW_STATUSES, Pool, Worker, Workflow, WorkflowStatus
from realtime.events.truncation import TRUNCATED
from realtime.protocol.channels import split_channel
from realtime.protocol.payload import raw_json
from realtime.queries.resource_state import (
    is_cut,
    pool_state,
    run_rows,
    run_state,
    stage_rows,
    stage_state,
    worker_rows,
    worker_state,
)
from realtime.queries.stage_pages import stage_counts, stages_of

MAX_SNAPSHOT_ROWS = 100
"""Maximum number of unfinished workflows, and of pools, in the snapshot of `global`. The newest come first."""

_MIN_STAGE_BYTES = 200
_MIN_WORKER_BYTES = 160
"""JSON text of the shortest stage and worker, at most. More of them than fit are not read."""

_UNFINISHED = [status for status in WorkflowStatus.values if status not in FINISHED_WORKFLOW_STATUSES]


def read_snapshot(channel: str, *, max_bytes: int) -> dict[str, Any] | None:
    """Return the state of a channel's resource, JSON-encodable; None if the resource does not exist.

    Args:
        channel: The channel.
        max_bytes: Size to which the caller truncates the JSON text. What could not be left of it then is not read: of
            the stages those beyond `max_bytes` / 200, of a stage's error what follows 4096 characters, of a pool's
            workers those beyond `max_bytes` / 160. With the default of 64 KiB this is at most about 1.5 MiB, and the
            result of the workflow. Parameters of more than `max_bytes` are left out.
    """
    resource_type, resource_id = split_channel(channel)
    return _SNAPSHOTS[resource_type](resource_id, max_bytes)


def _workflow(workflow_id: str, max_bytes: int) -> dict[str, Any] | None:
    runs = Workflow.objects.filter(pk=workflow_id).annotate(
        start_of_prompt=Left("prompt", max_bytes + 1),
        start_of_params=Left(Cast("params", TextField()), max_bytes + 1),
        start_of_error=Left("error", max_bytes + 1),
    )
    contents = ("adapter", "deadline_at", "result", "start_of_prompt", "start_of_params", "start_of_error")
    run = run_rows(runs, *contents).first()
    if run is None:
        return None
    of_run = stages_of(workflow_id)
    stages = list(stage_rows(of_run.order_by("position"))[: max_bytes // _MIN_STAGE_BYTES + 1])
    has_large_params = len(run["start_of_params"]) > max_bytes
    return {
        **run_state(run),
        "adapter": run["adapter"],
        "prompt": run["start_of_prompt"],
        "params": {} if has_large_params else raw_json(run["start_of_params"]),
        "deadline_at": run["deadline_at"],
        "result": run["result"],
        "error": run["start_of_error"],
        "stage_counts": stage_counts(of_run),
        "stages": [stage_state(stage) for stage in stages],
        **({TRUNCATED: True} if has_large_params or any(map(is_cut, stages)) else {}),
    }


def _pool(pool_id: str, max_bytes: int) -> dict[str, Any] | None:
    pool = Pool.objects.filter(pk=pool_id).first()
    if pool is None:
        return None
    workers = worker_rows(Worker.objects.filter(pool_id=pool_id).order_by("pk"))
    states = [worker_state(worker) for worker in workers[: max_bytes // _MIN_WORKER_BYTES + 1]]
    for state in states:
        del state["pool_id"]
    return {**pool_state(pool), "workers": sorted(states, key=itemgetter("worker_id"))}


def _worker(worker_id: str, _: int) -> dict[str, Any] | None:
    worker = worker_rows(Worker.objects.filter(pk=worker_id)).first()
    return None if worker is None else worker_state(worker)


def _global(_: str, __: int) -> dict[str, Any]:
    # The index on the status keeps this fast with any number of finished workflows.
    unfinished = Workflow.objects.filter(status__in=_UNFINISHED).order_by("-created_at", "-pk")
    runs = list(run_rows(unfinished)[: MAX_SNAPSHOT_ROWS + 1])
    runs.sort(key=itemgetter("created_at", "pk"), reverse=True)
    pools = list(Pool.objects.order_by("-created_at", "-pk")[: MAX_SNAPSHOT_ROWS + 1])
    pools.sort(key=attrgetter("created_at", "pk"), reverse=True)
    return {
        "workflows": [run_state(run) for run in runs[:MAX_SNAPSHOT_ROWS]],
        "pools": [pool_state(pool) for pool in pools[:MAX_SNAPSHOT_ROWS]],
        **({TRUNCATED: True} if max(len(runs), len(pools)) > MAX_SNAPSHOT_ROWS else {}),
    }


_SNAPSHOTS = {"workflow": _workflow, "pool": _pool, "worker": _worker, "global": _global, "summary": _global}
