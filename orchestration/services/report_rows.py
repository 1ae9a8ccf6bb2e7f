"""Lock and read the rows that reports are about, with a few queries for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from django.db import connection
from django.db.models import Max, Q, QuerySet

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
        rows.workers = {row.pk: row for row in _locked(Worker.objects.filter(pk__in=ids))}
    if ids := _valid(run_ids):
        rows.runs = {row.pk: row for row in _locked(Workflow.objects.filter(pk__in=ids))}
        rows.stages = {run_id: {} for run_id in rows.runs}
        known = [(run_id, name) for run_id, name in stage_names if run_id in rows.runs and "\x00" not in name]
        for stage in _lock_stages(sorted(ended_ids & rows.runs.keys()), sorted(known)):
            stage.workflow = rows.runs[stage.workflow_id]
            rows.stages[stage.workflow_id][stage.name] = stage
    pool_ids.update(row.pool_id for row in rows.workers.values())
    pool_ids.update(row.pool_id for row in rows.runs.values())
    pool_ids.update(stage.pool_id for stages in rows.stages.values() for stage in stages.values())
    if ids := _valid(changed_pool_ids):
        rows.pools = {row.pk: row for row in _locked(Pool.objects.filter(pk__in=ids))}
    if ids := _valid(pool_ids - rows.pools.keys()):
        rows.pools |= {row.pk: row for row in Pool.objects.filter(pk__in=ids)}
    for stages in rows.stages.values():
        for stage in stages.values():
            if stage.pool_id is not None:
                stage.pool = rows.pools[stage.pool_id]
    return rows


def _valid(ids: Iterable[str | None]) -> list[str]:
    """Return the ids that a row may have: Postgres does not accept NUL. A report with another is refused later."""
    return sorted(id for id in ids if isinstance(id, str) and is_identifier(id))


def _locked(rows: QuerySet) -> QuerySet:  # type: ignore[type-arg]
    return rows.select_for_update(no_key=True).order_by("pk")


def _lock_stages(ended_ids: list[str], names: list[tuple[str, str]]) -> Iterable[Stage]:
    """Lock the stages of these names, and the unfinished ones of runs that end."""
    if not ended_ids and not names:
        return ()
    condition = Q(workflow_id__in=ended_ids, finished_at=None) if ended_ids else Q()
    if names:
        quote = connection.ops.quote_name
        columns = f"{quote('workflow_id')}, {quote('name')}"
        pairs = ", ".join(["(%s, %s)"] * len(names))
        with connection.cursor() as cursor:
            cursor.execute(
                f"SELECT id FROM {quote(Stage._meta.db_table)} WHERE ({columns}) IN (VALUES {pairs})",
                [value for pair in names for value in pair],
            )
            primary_keys = [pk for (pk,) in cursor.fetchall()]
        if primary_keys or not ended_ids:
            condition |= Q(pk__in=primary_keys)
    return _locked(Stage.objects.filter(condition))
