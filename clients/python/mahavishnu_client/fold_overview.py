"""What each event changes in the overview: the unfinished runs and the pools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from msgspec.structs import replace

from mahavishnu_client import messages as m
from mahavishnu_client.fold_rows import POOL_ROW_FOLDS, RUN_ROW_FOLDS
from mahavishnu_client.state import Overview, PoolMetrics, PoolRow, RunRow

MAX_ROWS: Final = 100
"""The server lists up to so many runs, and so many pools."""


def _created(overview: Overview, data: m.WorkflowCreated) -> Overview:
    row = RunRow(
        workflow_id=data.workflow_id,
        name=data.name,
        status="pending",
        stages_completed=0,
        total_stages=data.total_stages,
        pool_id=data.pool_id,
        created_at=data.timestamp,
        started_at=None,
        finished_at=None,
        held=None,
        parent_id=data.parent_id,
        root_id=data.root_id,
        reported_by=data.reported_by,
    )
    return _insert(overview, row)


def _retried(overview: Overview, data: m.WorkflowRetried) -> Overview:
    row = RunRow(
        workflow_id=data.workflow_id,
        name=data.name,
        status="running",
        stages_completed=data.stages_completed,
        total_stages=data.total_stages,
        pool_id=data.pool_id,
        created_at=data.created_at,
        started_at=data.started_at,
        finished_at=None,
        held=None,
        parent_id=data.parent_id,
        root_id=data.root_id,
    )
    return _insert(overview, row)


def _insert(overview: Overview, row: RunRow) -> Overview:
    """Insert a run in its place. Mostly that is the first: transactions nearly commit in the order of their times."""
    rows = [other for other in overview.workflows if other.workflow_id != row.workflow_id]
    index = 0
    while index < len(rows) and _order(rows[index]) > _order(row):
        index += 1
    if overview.truncated and index == len(rows):
        return overview  # There are others before it that are not listed.
    rows.insert(index, row)
    truncated = overview.truncated or len(rows) > MAX_ROWS
    return replace(overview, workflows=tuple(rows[:MAX_ROWS]), truncated=truncated)


def _order(row: RunRow) -> tuple[datetime, str]:
    return row.created_at, row.workflow_id


def _completed_stages(row: RunRow, data: m.WorkflowStageCompleted | m.WorkflowStageStatusChanged) -> RunRow:
    return replace(row, stages_completed=data.stages_completed)


def _counted_stages(row: RunRow, data: m.WorkflowStageAdded | m.WorkflowStageRemoved) -> RunRow:
    return replace(row, stages_completed=data.stages_completed, total_stages=data.total_stages)


_RUN_CHANGES: Final[Mapping[type[Any], Callable[[Any, Any], RunRow]]] = {
    m.WorkflowStageCompleted: _completed_stages,
    m.WorkflowStageStatusChanged: _completed_stages,
    m.WorkflowStageAdded: _counted_stages,
    m.WorkflowStageRemoved: _counted_stages,
    **RUN_ROW_FOLDS,
}


def _change_run(overview: Overview, data: m.WorkflowEvent) -> Overview:
    rows = overview.workflows
    for index, row in enumerate(rows):
        if row.workflow_id == data.workflow_id:
            after = _RUN_CHANGES[type(data)](row, data)
            return replace(overview, workflows=(*rows[:index], after, *rows[index + 1 :]))
    return overview


def _remove_run(overview: Overview, data: m.WorkflowEvent) -> Overview:
    rows = tuple(row for row in overview.workflows if row.workflow_id != data.workflow_id)
    return overview if len(rows) == len(overview.workflows) else replace(overview, workflows=rows)


def _change_pool(overview: Overview, data: m.PoolEvent) -> Overview:
    rows = overview.pools
    for index, row in enumerate(rows):
        if row.pool_id == data.pool_id:
            after = POOL_ROW_FOLDS[type(data)](row, data)
            return replace(overview, pools=(*rows[:index], after, *rows[index + 1 :]))
    return overview


def _add_pool(overview: Overview, data: m.PoolCreated) -> Overview:
    row = PoolRow(pool_id=data.pool_id, status="active", metrics=PoolMetrics(), reported_by=data.reported_by)
    rows = (row, *overview.pools)
    return replace(overview, pools=rows[:MAX_ROWS], truncated=overview.truncated or len(rows) > MAX_ROWS)


def _remove_pool(overview: Overview, data: m.PoolRemoved) -> Overview:
    rows = tuple(row for row in overview.pools if row.pool_id != data.pool_id)
    return overview if len(rows) == len(overview.pools) else replace(overview, pools=rows)


OVERVIEW_FOLDS: Final[Mapping[type[Any], Callable[[Any, Any], Overview]]] = {
    m.WorkflowCreated: _created,
    m.WorkflowRetried: _retried,
    **dict.fromkeys((m.WorkflowCompleted, m.WorkflowFailed, m.WorkflowCancelled, m.WorkflowRemoved), _remove_run),
    **dict.fromkeys(_RUN_CHANGES, _change_run),
    m.PoolCreated: _add_pool,
    m.PoolRemoved: _remove_pool,
    **dict.fromkeys(POOL_ROW_FOLDS, _change_pool),
}
