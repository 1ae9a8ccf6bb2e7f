"""Apply one report to rows in memory, with the checks and changes of the services.

All checks come before the first change: a report that is refused changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from django.utils import timezone

from orchestration import signals
from orchestration.models import (
    POOL_COUNTERS,
    Pool,
    PoolStatus,
    Stage,
    StageStatus,
    Worker,
    WorkerStatus,
    Workflow,
    WorkflowStatus,
)
from orchestration.models.stage import MAX_STAGE_NAME_LENGTH
from orchestration.models.unit_of_work import current_unit
from orchestration.services import row_locks, stages, validation, workers, workflows
from orchestration.services.pools import change_locked_pool, check_accepts_workers, check_accepts_workflows
from orchestration.services.report_rows import Rows
from orchestration.services.report_types import (
    CreationNotAllowed,
    EngineOwned,
    PoolMetricsReport,
    PoolReport,
    Report,
    RunReport,
    StageReport,
    WorkerRemoval,
    WorkerReport,
    is_reported_again,
)

MAX_INTEGER: Final = 2**31 - 1
"""The largest value of the integer columns."""

_WITH_ERROR: Final = (WorkflowStatus.FAILED, WorkflowStatus.TIMEOUT, WorkflowStatus.CANCELLED)


class Rules:
    """Applies reports to locked rows. `may_create`: whether the reporter may create a pool, or change what is in it."""

    def __init__(self, rows: Rows, may_create: Callable[[str], bool]) -> None:
        self._rows = rows
        self._may_create = may_create
        self.stages = rows.stages
        self._last_created = datetime.min.replace(tzinfo=UTC)

    def apply(self, report: Report) -> bool:
        """Apply a report. Return False if the state is as reported already.

        Raises:
            ServiceError
        """
        if isinstance(report, StageReport):
            return self._stage(report)
        if isinstance(report, RunReport):
            return self._run(report)
        if isinstance(report, WorkerReport):
            return self._worker(report)
        if isinstance(report, PoolReport):
            return self._pool(report)
        if isinstance(report, PoolMetricsReport):
            return self._metrics(report)
        if isinstance(report, WorkerRemoval):
            return self._remove_worker(report)
        report.announce()
        return True

    def _run(self, report: RunReport) -> bool:
        validation.identifier("workflow_id", report.workflow_id)
        run = self._rows.runs.get(report.workflow_id)
        if run is None:
            if report.status not in (WorkflowStatus.PENDING, WorkflowStatus.RUNNING):
                raise row_locks.WorkflowNotFound(report.workflow_id)
            run = self._create_run(report)
            if report.status == WorkflowStatus.PENDING:
                return True
        elif run.plan is not None:
            raise EngineOwned("workflow", run.pk)
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
            pool = self._ensure_pool(report.pool_id, at=report.at)
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

    def _stage(self, report: StageReport) -> bool:
        validation.identifier("workflow_id", report.workflow_id)
        name = validation.text("stage_name", report.stage_name, max_length=MAX_STAGE_NAME_LENGTH, may_be_empty=False)
        run = self._rows.runs.get(report.workflow_id)
        if run is None:
            raise row_locks.WorkflowNotFound(report.workflow_id)
        if run.plan is not None:
            raise EngineOwned("workflow", run.pk)
        worker = self._worker_of(report)
        result: dict[str, Any] | None = None
        if report.status == StageStatus.COMPLETED:
            result = validation.json_object("result", report.result)
        error = validation.text("error", report.error) if report.status == StageStatus.FAILED else ""
        stage = self._rows.stages[run.pk].get(name)
        if stage is None:
            stage = Stage(workflow=run, name=name, position=0, pool_id=run.pool_id)
            if run.pool_id is not None:
                stage.pool = self._rows.pools[run.pool_id]
            stages.check_stage(stage, report.status, worker=worker)
            stage.position = self._rows.take_position(run)
            self._rows.stages[run.pk][name] = stage
            stage.insert(at=report.at)
        elif (
            stage.status == report.status
            and (worker is None or stage.worker_id == worker.pk)
            and is_reported_again(stage.result, result, stage.error, error)
        ):
            return False
        stage.mark_locked()
        if report.status == StageStatus.QUEUED:
            stages.queue_locked_stage(stage, at=report.at)
        elif report.status == StageStatus.RUNNING:
            stages.start_locked_stage(stage, worker, at=report.at)
        elif report.status == StageStatus.COMPLETED:
            stages.complete_locked_stage(stage, result or {}, at=report.at)
        elif report.status == StageStatus.FAILED:
            stages.fail_locked_stage(stage, error, at=report.at)
        else:
            stages.skip_locked_stage(stage, at=report.at)
        return True

    def _worker_of(self, report: StageReport) -> Worker | None:
        if report.worker_id is None:
            return None
        worker = self._rows.workers.get(validation.identifier("worker_id", report.worker_id))
        if worker is None:
            raise row_locks.WorkerNotFound(report.worker_id)
        workers.check_is_external(worker)
        return worker

    def _worker(self, report: WorkerReport) -> bool:
        validation.identifier("worker_id", report.worker_id)
        workers.check_worker_status(report.status)
        worker = self._rows.workers.get(report.worker_id)
        if worker is None:
            self._add_worker(report)
            return True
        workers.check_is_external(worker)
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
        self._check_may_create(pool_id)
        if pool_id in self._rows.pools:
            check_accepts_workers(pool_id, self._rows.pools[pool_id].status)
        self._ensure_pool(pool_id, at=report.at)
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
        # Not in a unit of work: Django deletes the row and sends the signals.
        workers.remove_worker(worker_id=report.worker_id, at=report.at)
        self._rows.workers.pop(report.worker_id, None)
        return True

    def _pool(self, report: PoolReport) -> bool:
        validation.identifier("pool_id", report.pool_id)
        if report.is_new:
            if report.pool_id in self._rows.pools:
                return False
            self._create_pool(report.pool_id, at=report.at)
            return True
        pool = self._rows.pools.get(report.pool_id)
        if pool is None:
            raise row_locks.PoolNotFound(report.pool_id)
        _check_is_reported(pool)
        if pool.status == report.status:
            return False
        if report.status == PoolStatus.CLOSED:
            pool.refresh_from_db()
        pool.mark_locked()
        change_locked_pool(pool, report.status, at=report.at)
        return True

    def _ensure_pool(self, pool_id: str, *, at: datetime) -> Pool:
        pool = self._rows.pools.get(validation.identifier("pool_id", pool_id))
        if pool is None:
            return self._create_pool(pool_id, at=at)
        if not pool.reported_by:
            self._check_may_create(pool_id)
        return pool

    def _check_may_create(self, pool_id: str) -> None:
        if not self._may_create(pool_id):
            raise CreationNotAllowed(pool_id)

    def _create_pool(self, pool_id: str, *, at: datetime) -> Pool:
        self._check_may_create(pool_id)
        # The overview lists pools as they were stored, so a reported time, which may be long ago, cannot order them.
        at = self._last_created = max(timezone.now(), self._last_created + timedelta(microseconds=1))
        pool = Pool(id=pool_id, created_at=at, updated_at=at)
        self._rows.pools[pool_id] = pool
        pool.insert(at=at)
        return pool

    def _metrics(self, report: PoolMetricsReport) -> bool:
        pool_id = validation.identifier("pool_id", report.pool_id)
        counters = {
            name: validation.integer(f"status.{name}", report.counters.get(name, 0), largest=MAX_INTEGER)
            for name in POOL_COUNTERS
        }
        of_workers = sum(counters[name] for name in ("active_workers", "idle_workers", "error_workers"))
        counters["worker_count"] = max(counters["worker_count"], of_workers)
        pool = self._rows.pools.get(pool_id)
        if pool is not None:
            _check_is_reported(pool)
            if pool.status == PoolStatus.CLOSED and (counters["queue_size"] or counters["tasks_running"]):
                raise validation.InvalidArgument("status", report.counters, "no work, because the pool is closed")
            if pool.metrics_reported and all(getattr(pool, name) == value for name, value in counters.items()):
                return False
        else:
            pool = self._create_pool(pool_id, at=report.at)
        for name, value in counters.items():
            setattr(pool, name, value)
        pool.metrics_reported = True
        pool.metrics_dirty_since = None
        pool.updated_at = report.at
        unit = current_unit()
        assert unit is not None
        unit.update(pool, (*POOL_COUNTERS, "metrics_reported", "metrics_dirty_since", "updated_at"))
        signals.pool_metrics_changed.send(sender=Pool, pool=pool, at=report.at)
        return True


def _check_is_reported(pool: Pool) -> None:
    if not pool.reported_by:
        raise EngineOwned("pool", pool.pk)
