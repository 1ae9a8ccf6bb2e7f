"""Lock and read the rows that reports are about, with a few queries for all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from django.db import connection
from django.db.models import Max

from orchestration.db.compiled import CompiledSelect, KeyIn, Row
from orchestration.identifiers import is_identifier
from orchestration.models import FINISHED_WORKFLOW_STATUSES, Pool, Stage, Worker, Workflow
from orchestration.services import validation
from orchestration.services.report_types import (
    EngineOwned,
    PoolMetricsReport,
    PoolReport,
    Report,
    ReportedByOther,
    ReportOfStage,
    RunReport,
    StageReport,
    WorkerRemoval,
    WorkerReport,
)
from orchestration.services.workers import check_is_external


def _locked_by_key(model: type[Row]) -> CompiledSelect[Row]:
    return CompiledSelect(
        lambda keys: model._default_manager.filter(KeyIn(keys)).select_for_update(no_key=True).order_by("pk"), str
    )


# The parameter is a JSON array of keys.
_WORKERS: Final = _locked_by_key(Worker)
_WORKFLOWS: Final = _locked_by_key(Workflow)
_STAGES: Final = _locked_by_key(Stage)
_LOCKED_POOLS: Final = _locked_by_key(Pool)
_POOLS: Final = CompiledSelect(lambda keys: Pool.objects.filter(KeyIn(keys)), str)


@dataclass(slots=True)
class Rows:
    """The rows, by their ids. New ones are added.

    Attributes:
        may_change: Whether the reporter may change what this one has reported.
        workers: Workers, locked.
        runs: Workflows, locked.
        stages: The stages that reports name, by workflow and name, locked; of a run that ends, all unfinished ones.
        pools: Pools; locked if a report changes them.
        next_positions: Where a new stage of a run goes, if that was needed before.
    """

    may_change: Callable[[str], bool] = lambda reported_by: True
    workers: dict[str, Worker] = field(default_factory=dict)
    runs: dict[str, Workflow] = field(default_factory=dict)
    stages: dict[str, dict[str, Stage]] = field(default_factory=dict)
    pools: dict[str, Pool] = field(default_factory=dict)
    next_positions: dict[str, int] = field(default_factory=dict)

    def find_run(self, workflow_id: str) -> Workflow | None:
        """Return a run to change; None if it is not known.

        Raises:
            InvalidIdentifier, EngineOwned, ReportedByOther
        """
        run = self.runs.get(validation.identifier("workflow_id", workflow_id))
        if run is not None and run.plan is not None:
            raise EngineOwned("workflow", run.pk)
        self._check_may_change("workflow", run)
        return run

    def find_worker(self, worker_id: str) -> Worker | None:
        """Return a worker to change; None if it is not known.

        Raises:
            InvalidIdentifier, EngineWorker, ReportedByOther
        """
        worker = self.workers.get(validation.identifier("worker_id", worker_id))
        if worker is not None:
            check_is_external(worker)
        self._check_may_change("worker", worker)
        return worker

    def find_pool(self, pool_id: str) -> Pool | None:
        """Return a pool to change; None if it is not known.

        Raises:
            InvalidIdentifier, EngineOwned, ReportedByOther
        """
        pool = self.pools.get(validation.identifier("pool_id", pool_id))
        if pool is not None and not pool.reported_by:
            raise EngineOwned("pool", pool.pk)
        self._check_may_change("pool", pool)
        return pool

    def _check_may_change(self, kind: str, row: Workflow | Worker | Pool | None) -> None:
        if row is not None and not self.may_change(row.reported_by):
            raise ReportedByOther(kind, row.pk)

    def take_position(self, run: Workflow) -> int:
        """Return the position of one more stage of a run."""
        if run.pk not in self.next_positions:
            last = Stage.objects.filter(workflow_id=run.pk).aggregate(last=Max("position"))["last"]
            self.next_positions[run.pk] = 0 if last is None else last + 1
        position = self.next_positions[run.pk]
        self.next_positions[run.pk] = position + 1
        return position


def lock_rows(reports: Sequence[Report], may_change: Callable[[str], bool]) -> Rows:
    """Lock the rows of reports, in the order that `orchestration.models.tracked` defines."""
    worker_ids: set[str | None] = set()
    run_ids: set[str] = set()
    ended_ids: set[str] = set()
    stage_names: set[tuple[str, str]] = set()
    pool_ids: set[str | None] = set()
    changed_pool_ids: set[str | None] = set()
    for report in reports:
        if isinstance(report, ReportOfStage):
            run_ids.add(report.workflow_id)
            stage_names.add((report.workflow_id, report.stage_name))
            if isinstance(report, StageReport):
                worker_ids.add(report.worker_id)
                pool_ids.add(report.pool_id)
        elif isinstance(report, RunReport):
            run_ids.add(report.workflow_id)
            pool_ids.add(report.pool_id)
            if report.status in FINISHED_WORKFLOW_STATUSES:
                ended_ids.add(report.workflow_id)
        elif isinstance(report, WorkerReport):
            worker_ids.add(report.worker_id)
            pool_ids.add(report.pool_id)
        elif isinstance(report, WorkerRemoval):
            worker_ids.add(report.worker_id)
        elif isinstance(report, PoolReport | PoolMetricsReport):
            changed_pool_ids.add(report.pool_id)
    rows = Rows(may_change=may_change)
    if ids := _valid(worker_ids):
        rows.workers = {row.pk: row for row in _WORKERS.rows(json.dumps(ids))}
    if ids := _valid(run_ids):
        rows.runs = {row.pk: row for row in _WORKFLOWS.rows(json.dumps(ids))}
        rows.stages = {run_id: {} for run_id in rows.runs}
        known = [(run_id, name) for run_id, name in stage_names if run_id in rows.runs and "\x00" not in name]
        for stage in _lock_stages(sorted(ended_ids & rows.runs.keys()), sorted(known)):
            stage.workflow = rows.runs[stage.workflow_id]
            rows.stages[stage.workflow_id][stage.name] = stage
    pool_ids.update(row.pool_id for row in rows.workers.values())
    pool_ids.update(row.pool_id for row in rows.runs.values())
    pool_ids.update(stage.pool_id for stages in rows.stages.values() for stage in stages.values())
    if ids := _valid(changed_pool_ids):
        rows.pools = {row.pk: row for row in _LOCKED_POOLS.rows(json.dumps(ids))}
    if ids := _valid(pool_ids - rows.pools.keys()):
        rows.pools |= {row.pk: row for row in _POOLS.rows(json.dumps(ids))}
    for stages in rows.stages.values():
        for stage in stages.values():
            if stage.pool_id is not None:
                stage.pool = rows.pools[stage.pool_id]
    return rows


def _valid(ids: Iterable[str | None]) -> list[str]:
    """Return the ids that a row may have: Postgres does not accept NUL. A report with another is refused later."""
    return sorted(id for id in ids if isinstance(id, str) and is_identifier(id))


def _lock_stages(ended_ids: list[str], names: list[tuple[str, str]]) -> Iterable[Stage]:
    """Lock the stages of these names, and the unfinished ones of runs that end. The lock of a run is that of them."""
    select = f"SELECT id FROM {connection.ops.quote_name(Stage._meta.db_table)} WHERE"
    if connection.vendor == "sqlite":
        # Not `->>`: SQLite has it from 3.38 on.
        pairs = "SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(%s)"
    else:
        pairs = "SELECT value ->> 0, value ->> 1 FROM json_array_elements(%s::json)"
    parts, values = [], []
    if names:
        parts.append(f"{select} (workflow_id, name) IN ({pairs})")
        values.append(json.dumps(names))
    if ended_ids:
        parts.append(f"{select} workflow_id IN ({', '.join(['%s'] * len(ended_ids))}) AND finished_at IS NULL")
        values += ended_ids
    if not parts:
        return ()
    with connection.cursor() as cursor:
        cursor.execute(" UNION ".join(parts), values)
        primary_keys = sorted(pk for (pk,) in cursor.fetchall())
    return _STAGES.rows(json.dumps(primary_keys)) if primary_keys else ()
