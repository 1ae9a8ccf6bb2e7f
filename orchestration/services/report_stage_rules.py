"""Apply one report about a stage to rows in memory."""

from __future__ import annotations

from typing import Any

from orchestration.models import Pool, Stage, StageStatus, Worker, Workflow
from orchestration.models.stage import MAX_STAGE_NAME_LENGTH
from orchestration.services import external_stages, row_locks, stages, validation, workers
from orchestration.services.report_pool_rules import PoolRules
from orchestration.services.report_rows import Rows
from orchestration.services.report_types import (
    AttemptFailure,
    ReportOfStage,
    StageMessage,
    StageReport,
    is_reported_again,
)


class StageRules:
    """Changes stages of runs."""

    def __init__(self, rows: Rows, pools: PoolRules) -> None:
        self._rows = rows
        self._pools = pools

    def apply(self, report: ReportOfStage) -> bool:
        """Apply a report. Return False if the stage is as reported already."""
        name = validation.text("stage_name", report.stage_name, max_length=MAX_STAGE_NAME_LENGTH, may_be_empty=False)
        run = self._rows.find_run(report.workflow_id)
        if run is None:
            raise row_locks.WorkflowNotFound(report.workflow_id)
        stage = self._rows.stages[run.pk].get(name)
        if isinstance(report, StageReport):
            return self._change(run, stage, report)
        if isinstance(report, AttemptFailure):
            return self._requeue(run, stage, report)
        return self._add_message(run, stage, report)

    def _change(self, run: Workflow, stage: Stage | None, report: StageReport) -> bool:
        worker = self._worker_of(report)
        result: dict[str, Any] | None = None
        if report.status == StageStatus.COMPLETED:
            result = validation.json_object("result", report.result)
        error = validation.text("error", report.error) if report.status == StageStatus.FAILED else ""
        if stage is None:
            stage = self._add(run, report, report.status, pool_id=report.pool_id, worker=worker)
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

    def _requeue(self, run: Workflow, stage: Stage | None, report: AttemptFailure) -> bool:
        external_stages.check_attempt_failure(report.error, report.reason)
        if stage is None:
            stage = self._add(run, report, StageStatus.RUNNING)
        if stage.status in (StageStatus.PENDING, StageStatus.QUEUED):
            stage.mark_locked()
            stages.start_locked_stage(stage, None, at=report.at)
        stage.mark_locked()
        external_stages.requeue_locked_stage(stage, report.error, reason=report.reason, at=report.at)
        return True

    def _add_message(self, run: Workflow, stage: Stage | None, report: StageMessage) -> bool:
        if stage is None:
            raise row_locks.StageNotFound(run.pk, report.stage_name)
        external_stages.add_message_to_locked_stage(stage, report.message, at=report.at)
        return True

    def _add(
        self,
        run: Workflow,
        report: ReportOfStage,
        status: StageStatus,
        *,
        pool_id: str | None = None,
        worker: Worker | None = None,
    ) -> Stage:
        """Add a pending stage to a run, behind the others, if it may then have this status on this worker."""
        pool_id = run.pool_id if pool_id is None else pool_id
        stage = Stage(workflow=run, name=report.stage_name, position=0, pool_id=pool_id)
        if pool_id is not None:
            stage.pool = self._rows.pools.get(pool_id) or Pool(id=pool_id)
        stages.check_stage(stage, status, worker=worker)
        if pool_id is not None and pool_id != run.pool_id:
            stage.pool = self._pools.ensure(pool_id)
        stage.position = self._rows.take_position(run)
        self._rows.stages[run.pk][stage.name] = stage
        stage.insert(at=report.at)
        return stage

    def _worker_of(self, report: StageReport) -> Worker | None:
        if report.worker_id is None:
            return None
        worker = self._rows.workers.get(validation.identifier("worker_id", report.worker_id))
        if worker is None:
            raise row_locks.WorkerNotFound(report.worker_id)
        workers.check_is_external(worker)
        return worker
