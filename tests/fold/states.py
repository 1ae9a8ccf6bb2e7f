"""States and events for the tests of the fold."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from mahavishnu_client import messages
from mahavishnu_client.state import Hold, Overview, Pool, PoolMetrics, PoolRow, Run, RunRow, StageState, Worker


def at(seconds: float) -> datetime:
    return datetime(2026, 2, 10, 20, tzinfo=UTC) + timedelta(seconds=seconds)


NOW = at(60)
"""When the events of the tests happen."""


class ClientEvent(NamedTuple):
    name: str
    data: Any


def event(name: str, /, **data: Any) -> ClientEvent:
    """Return an event at `NOW` about the run "wf", the worker "w" and the pool "p", unless the data names others."""
    ids = {f"{kind}_id": id for kind, id in (("workflow", "wf"), ("worker", "w"), ("pool", "p"))}
    data_type = messages.EVENT_TYPES[name]
    known = {field: ids[field] for field in data_type.__struct_fields__ if field in ids}
    encoded = msgspec.json.encode({"timestamp": NOW, **known, **data})
    return ClientEvent(name, msgspec.json.decode(encoded, type=data_type))


HOLD = Hold(reason="no_worker", needs="", since=at(5))


def stage(position: int, status: str = "pending", **fields: Any) -> StageState:
    times: dict[str, Any] = {}
    if status in ("queued", "running", "waiting", "completed", "failed"):
        times["queued_at"] = at(10)
    if status in ("running", "waiting", "completed", "failed"):
        times |= {"started_at": at(20), "worker_id": "w", "attempt": 1}
    if status in ("completed", "failed", "skipped", "cancelled"):
        times["finished_at"] = at(30)
    return StageState(
        position=position,
        stage_name=f"s{position}",
        step=fields.pop("step", position),
        status=status,
        last_attempt=fields.pop("last_attempt", 3),
        **{**times, **fields},
    )


def run(*stages: StageState, status: str = "running", **fields: Any) -> Run:
    counts: dict[str, int] = {}
    for each in stages:
        counts[each.status] = counts.get(each.status, 0) + 1
    values: dict[str, Any] = {
        "workflow_id": "wf",
        "name": "report",
        "status": status,
        "stages_completed": counts.get("completed", 0),
        "total_stages": len(stages),
        "pool_id": "p",
        "created_at": at(0),
        "started_at": None if status == "pending" else at(1),
        "finished_at": None if status in ("pending", "running") else at(30),
        "held": None,
        "adapter": "python",
        "prompt": "Write code",
        "params": {"path": "."},
        "deadline_at": None,
        "result": None,
        "error": "",
        "stage_counts": counts,
        "stages": stages,
    }
    return Run(**{**values, **fields})


def row(workflow_id: str = "wf", *, created: float = 0, status: str = "running", **fields: Any) -> RunRow:
    values: dict[str, Any] = {
        "workflow_id": workflow_id,
        "name": "report",
        "status": status,
        "stages_completed": 0,
        "total_stages": 2,
        "pool_id": "p",
        "created_at": at(created),
        "started_at": None if status == "pending" else at(1),
        "finished_at": None,
        "held": None,
    }
    return RunRow(**{**values, **fields})


def worker(worker_id: str = "w", status: str = "idle", **fields: Any) -> Worker:
    values: dict[str, Any] = {
        "pool_id": "p",
        "draining": False,
        "release": "",
        "workflow_id": None,
        "stage_name": None,
        "status_changed_at": at(2),
        "last_heartbeat_at": at(3),
    }
    return Worker(worker_id=worker_id, status=status, **{**values, **fields})


METRICS = PoolMetrics(idle_workers=1, worker_count=1)


def pool(*workers: Worker, status: str = "active", **fields: Any) -> Pool:
    return Pool(**{"pool_id": "p", "status": status, "metrics": METRICS, "workers": workers, **fields})


def pool_row(pool_id: str = "p", status: str = "active") -> PoolRow:
    return PoolRow(pool_id=pool_id, status=status, metrics=METRICS)


def overview(*runs: RunRow, pools: tuple[PoolRow, ...] = (), truncated: bool = False) -> Overview:
    return Overview(workflows=runs, pools=pools, truncated=truncated)


__all__ = ["HOLD", "METRICS", "NOW", "ClientEvent", "at", "event", "overview", "pool", "pool_row", "replace", "row"]
__all__ += ["run", "stage", "worker"]
