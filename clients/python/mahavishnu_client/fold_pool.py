"""What each event changes in the state of a worker, and of a pool with its workers."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final

from msgspec.structs import replace

from mahavishnu_client import messages as m
from mahavishnu_client.fold_rows import POOL_ROW_FOLDS
from mahavishnu_client.state import Pool, PoolMetrics, Worker

_by_id = attrgetter("worker_id")


def _added(worker: Worker | None, data: m.WorkerStatusChanged) -> Worker:
    return Worker(
        worker_id=data.worker_id,
        status=data.status,
        pool_id=data.pool_id,
        draining=data.draining,
        release=data.release,
        workflow_id=data.workflow_id,
        stage_name=data.stage_name,
        status_changed_at=data.timestamp,
        last_heartbeat_at=data.timestamp,
        reported_by=data.reported_by,
    )


def _status_changed(worker: Worker, data: m.WorkerStatusChanged) -> Worker:
    return replace(
        worker,
        status=data.status,
        pool_id=data.pool_id,
        draining=data.draining,
        release=data.release,
        workflow_id=data.workflow_id,
        stage_name=data.stage_name,
        status_changed_at=data.timestamp,
    )


def _stage_changed(worker: Worker, data: m.WorkerStageChanged) -> Worker:
    return replace(worker, pool_id=data.pool_id, workflow_id=data.workflow_id, stage_name=data.stage_name)


def _draining(worker: Worker, data: m.WorkerDraining) -> Worker:
    return replace(worker, draining=True)


def _moved(worker: Worker, data: m.WorkerMoved) -> Worker:
    return replace(worker, pool_id=data.pool_id)


def _removed(worker: Worker, data: m.WorkerRemoved) -> None:
    return None


WORKER_FOLDS: Final[Mapping[type[Any], Callable[[Any, Any], Worker | None]]] = {
    m.WorkerAdded: _added,
    m.WorkerStatusChanged: _status_changed,
    m.WorkerStageChanged: _stage_changed,
    m.WorkerDraining: _draining,
    m.WorkerMoved: _moved,
    m.WorkerRemoved: _removed,
}


def _fold_worker(pool: Pool, data: m.WorkerEvent) -> Pool:
    """Change a worker of the pool. One that was not in it joins it with its first whole state."""
    workers = pool.workers
    index = bisect_left(workers, data.worker_id, key=_by_id)
    is_known = index < len(workers) and workers[index].worker_id == data.worker_id
    after: Worker | None
    if data.pool_id != pool.pool_id:
        after = None
    elif is_known:
        after = WORKER_FOLDS[type(data)](workers[index], data)
    elif isinstance(data, m.WorkerStatusChanged) and (index < len(workers) or not pool.truncated):
        after = _added(None, data)
    else:
        return pool
    kept = () if after is None else (after,)
    return replace(pool, workers=(*workers[:index], *kept, *workers[index + is_known :]))


def _created(pool: Pool | None, data: m.PoolCreated) -> Pool:
    return Pool(pool_id=data.pool_id, status="active", metrics=PoolMetrics(), workers=(), reported_by=data.reported_by)


def _pool_removed(pool: Pool, data: m.PoolRemoved) -> None:
    return None


POOL_FOLDS: Final[Mapping[type[Any], Callable[[Any, Any], Pool | None]]] = {
    m.PoolCreated: _created,
    m.PoolRemoved: _pool_removed,
    **POOL_ROW_FOLDS,
    **dict.fromkeys(WORKER_FOLDS, _fold_worker),
}
