"""What each event changes in the fields that a run, or a pool, has in an overview too.

A run is a row of the overview with more fields, and so is a pool: the same functions change both.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from msgspec.structs import replace

from mahavishnu_client import messages as m
from mahavishnu_client.state import Hold, PoolRow, RunRow

R = TypeVar("R", bound=RunRow)
P = TypeVar("P", bound=PoolRow)


def _started(run: R, data: m.WorkflowStarted) -> R:
    return replace(run, status="running", started_at=run.started_at or data.timestamp)


def _held(run: R, data: m.WorkflowHeld) -> R:
    return replace(run, held=Hold(reason=data.reason, needs=data.needs, since=data.timestamp))


def _hold_ended(run: R, data: m.WorkflowHoldEnded) -> R:
    return replace(run, held=None)


def _moved(run: R, data: m.WorkflowMoved) -> R:
    return replace(run, pool_id=data.pool_id)


def _metrics_changed(pool: P, data: m.PoolStatusChanged) -> P:
    return replace(pool, metrics=data.status)


def _drained(pool: P, data: m.PoolDrained) -> P:
    return replace(pool, status="draining")


def _reopened(pool: P, data: m.PoolReopened) -> P:
    return replace(pool, status="active")


def _closed(pool: P, data: m.PoolClosed) -> P:
    return replace(pool, status="closed")


RUN_ROW_FOLDS: Final[Mapping[type[Any], Callable[[Any, Any], Any]]] = {
    m.WorkflowStarted: _started,
    m.WorkflowHeld: _held,
    m.WorkflowHoldEnded: _hold_ended,
    m.WorkflowMoved: _moved,
}

POOL_ROW_FOLDS: Final[Mapping[type[Any], Callable[[Any, Any], Any]]] = {
    m.PoolStatusChanged: _metrics_changed,
    m.PoolDrained: _drained,
    m.PoolReopened: _reopened,
    m.PoolClosed: _closed,
}
