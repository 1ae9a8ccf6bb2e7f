"""Apply one report to rows in memory, with the checks and changes of the services.

All checks come before the first change: a report that is refused changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from orchestration.models import Stage, Worker, WorkerStatus, Workflow, WorkflowStatus
from orchestration.models.unit_of_work import current_unit
from orchestration.services import row_locks, validation, workers, workflows
from orchestration.services.pools import check_accepts_workers, check_accepts_workflows
from orchestration.services.report_pool_rules import MAX_INTEGER, PoolRules
from orchestration.services.report_rows import Rows
from orchestration.services.report_stage_rules import StageRules
from orchestration.services.report_types import (
    PoolMetricsReport,
    PoolReport,
    Report,
    ReportOfStage,
    RunReport,
    WorkerRemoval,
    WorkerReport,
    is_reported_again,
)

_WITH_ERROR: Final = (WorkflowStatus.FAILED, WorkflowStatus.TIMEOUT, WorkflowStatus.CANCELLED)


class Rules:
    """Applies reports to locked rows. `may_create`: whether the reporter may create a pool, or change what is in it."""

    def __init__(self, rows: Rows, may_create: Callable[[str], bool]) -> None:
        self._rows = rows
        self._pools = PoolRules(rows, may_create)
        self._stages = StageRules(rows, self._pools)
        self.stages = rows.stages

    def apply(self, report: Report) -> bool:
        """Apply a report. Return False if the state is as reported already.

        Raises:
            ServiceError
        """
        if isinstance(report, ReportOfStage):
            return self._stages.apply(report)
        if isinstance(report, RunReport):
            return self._run(report)
        if isinstance(report, WorkerReport):
            return self._worker(report)
        if isinstance(report, PoolReport):
            return self._pools.change(report)
        if isinstance(report, PoolMetricsReport):
            return self._pools.change_metrics(report)
        if isinstance(report, WorkerRemoval):
            return self._remove_worker(report)
        report.announce()
        return True

    def _run(self, report: RunReport) -> bool:
        run = self._rows.find_run(report.workflow_id)
        if run is None:
            if report.status not in (WorkflowStatus.PENDING, WorkflowStatus.RUNNING):
                raise row_locks.WorkflowNotFound(report.workflow_id)
            run = self._create_run(report)
            if report.status == WorkflowStatus.PENDING:
                return True
        elif report.status == WorkflowStatus.PENDING:
            return False
        result = None
        if report.status == WorkflowStatus.COMPLETED:
            result = validation.json_object("result", report.result)
        error = validation.text("error", report.error) if report.status in _WITH_ERROR else ""
        if run.status == report.status and is_reported_again(run.result, result, run.error, error):
            return False
        run.mark_locked()
        workflows.change_locked_workflow(run, report.status, at=report.at, error=error, result=result)
        return True

    def _create_run(self, report: RunReport) -> Workflow:
        names = [stage.name for stage in report.stages]
        run = workflows.new_workflow(
            adapter=report.adapter,
            prompt=report.prompt,
            stages=validation.stage_names("stages", names) if names else [],
            name=report.name,
            workflow_id=report.workflow_id,
            pool_id=report.pool_id,
            params=report.params,
            at=report.at,
        )
        new_stages: list[Stage] = list(run.new_stages or ())
        for stage, reported in zip(new_stages, report.stages, strict=True):
            stage.step = validation.integer("step", reported.step, largest=MAX_INTEGER)
            stage.last_attempt = validation.integer("last_attempt", reported.last_attempt, largest=MAX_INTEGER)
        if report.pool_id is not None:
            pool = self._pools.ensure(report.pool_id)
            check_accepts_workflows(pool.pk, pool.status)
            for stage in new_stages:
                stage.pool = pool
        unit = current_unit()
        assert unit is not None
        for stage in new_stages:
            unit.insert(stage)
        self._rows.runs[run.pk] = run
        self._rows.stages[run.pk] = {stage.name: stage for stage in new_stages}
        self._rows.next_positions[run.pk] = len(new_stages)
        run.insert(at=report.at)
        return run

    def _worker(self, report: WorkerReport) -> bool:
        workers.check_worker_status(report.status)
        worker = self._rows.find_worker(report.worker_id)
        if worker is None:
            self._add_worker(report)
            return True
        if report.pool_id is not None and report.pool_id != worker.pool_id:
            raise workers.WorkerInOtherPool(worker.pk, worker.pool_id, report.pool_id)
        if worker.status == report.status:
            return False
        if report.is_registration and worker.status == WorkerStatus.OFFLINE:
            worker.mark_locked()
            self._register(worker, report)
            return True
        worker.mark_locked()
        workers.change_locked_worker(worker, report.status, at=report.at)
        return True

    def _add_worker(self, report: WorkerReport) -> None:
        if report.pool_id is None:
            raise row_locks.WorkerNotFound(report.worker_id)
        pool_id = validation.identifier("pool_id", report.pool_id)
        self._pools.check_may_create(pool_id)
        if pool_id in self._rows.pools:
            check_accepts_workers(pool_id, self._rows.pools[pool_id].status)
        self._pools.ensure(pool_id)
        worker = Worker(id=report.worker_id, pool_id=pool_id)
        self._rows.workers[worker.pk] = worker
        self._register(worker, report)

    def _register(self, worker: Worker, report: WorkerReport) -> None:
        pool_status = self._rows.pools[worker.pool_id].status
        workers.register_locked_worker(worker, worker.pool_id, pool_status=pool_status, at=report.at)
        if report.status != WorkerStatus.IDLE:
            worker.mark_locked()
            workers.change_locked_worker(worker, report.status, at=report.at)

    def _remove_worker(self, report: WorkerRemoval) -> bool:
        self._rows.find_worker(report.worker_id)
        # Not in a unit of work: Django deletes the row and sends the signals.
        workers.remove_worker(worker_id=report.worker_id, at=report.at)
        self._rows.workers.pop(report.worker_id, None)
        return True
