"""Reports for tests, and what the services make of the same reports one by one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from hypothesis import strategies as st

from orchestration import services
from orchestration.models import (
    FailedAttempt,
    FailureReason,
    Pool,
    PoolStatus,
    Stage,
    StageStatus,
    Worker,
    Workflow,
    WorkflowStatus,
)
from orchestration.services import stages
from orchestration.services.report_types import (
    AttemptFailure,
    PoolReport,
    Report,
    ReportedStage,
    ReportOfStage,
    RunReport,
    StageMessage,
    StageReport,
    WorkerRemoval,
    WorkerReport,
)
from orchestration.services.reports import Outcome
from realtime.events.receivers import Announcement
from realtime.protocol.payload import decode_object, encode_data

T0 = datetime(2026, 2, 10, 20, tzinfo=UTC)

RUNS, STAGES, WORKERS, POOLS = ("run1", "run2"), ("a", "b", "c"), ("w1", "w2"), ("p1", "p2")


def at(seconds: int) -> datetime:
    return T0 + timedelta(seconds=seconds)


@st.composite
def report_lists(draw: st.DrawFn) -> list[Report]:
    return [draw(a_report(at(number))) for number in range(draw(st.integers(1, 25)))]


def a_report(when: datetime) -> st.SearchStrategy[Report]:
    """Return reports that are mostly possible, of a few runs, stages, workers and pools."""
    runs, pools, workers = st.sampled_from(RUNS), st.sampled_from(POOLS), st.sampled_from(WORKERS)
    results: st.SearchStrategy[Any] = st.sampled_from([None, {"x": 1}, {"duration_ms": 7}])
    new_stages = st.lists(st.sampled_from(STAGES), unique=True, min_size=1, max_size=2)
    run = st.builds(
        RunReport,
        at=st.just(when),
        workflow_id=runs,
        status=st.sampled_from([*[WorkflowStatus.PENDING, WorkflowStatus.RUNNING] * 4, *WorkflowStatus]),
        adapter=st.just("airflow"),
        pool_id=st.sampled_from([None, *POOLS]),
        stages=new_stages.map(lambda names: tuple(ReportedStage(name=name) for name in names)),
        result=results,
        error=st.sampled_from(["", "It broke"]),
    )
    stage = st.builds(
        StageReport,
        at=st.just(when),
        workflow_id=runs,
        stage_name=st.sampled_from(STAGES),
        status=st.sampled_from([status for status in StageStatus if status not in ("pending", "cancelled")]),
        pool_id=st.sampled_from([None, None, *POOLS]),
        worker_id=st.sampled_from([None, None, *WORKERS]),
        result=results,
        error=st.sampled_from(["", "It broke"]),
    )
    which: dict[str, Any] = {"at": st.just(when), "workflow_id": runs, "stage_name": st.sampled_from(STAGES)}
    reasons = st.sampled_from([FailureReason.FAILED, FailureReason.LOST])
    failure = st.builds(AttemptFailure, **which, error=st.just("It broke"), reason=reasons)
    message = st.builds(StageMessage, **which, message=st.just("Half of it"))
    worker = st.builds(
        WorkerReport,
        at=st.just(when),
        worker_id=workers,
        status=st.sampled_from(["idle", "busy", "error", "offline", "gone"]),
        pool_id=pools,
        is_registration=st.booleans(),
    )
    pool = st.builds(
        PoolReport, at=st.just(when), pool_id=pools, status=st.sampled_from(list(PoolStatus)), is_new=st.just(False)
    )
    new_pool = st.builds(
        PoolReport, at=st.just(when), pool_id=pools, status=st.just(PoolStatus.ACTIVE), is_new=st.just(True)
    )
    removal = st.builds(WorkerRemoval, at=st.just(when), worker_id=workers)
    return st.one_of(run, run, stage, stage, stage, failure, message, worker, pool, new_pool, removal)


def apply_with_services(report: Report) -> Outcome:
    """Apply a report by calls of the services alone; return its outcome."""
    try:
        return _apply(report)
    except services.ServiceError as error:
        return error


def _apply(report: Report) -> bool:
    if isinstance(report, RunReport):
        return _apply_run(report)
    if isinstance(report, StageReport):
        return _apply_stage(report)
    if isinstance(report, AttemptFailure):
        return _apply_failure(report)
    if isinstance(report, StageMessage):
        message = {"workflow_id": report.workflow_id, "stage_name": report.stage_name, "message": report.message}
        services.add_message(**message, at=report.at)
        return True
    if isinstance(report, WorkerReport):
        return _apply_worker(report)
    if isinstance(report, WorkerRemoval):
        services.remove_worker(worker_id=report.worker_id, at=report.at)
        return True
    assert isinstance(report, PoolReport)
    pool = Pool.objects.filter(pk=report.pool_id).first()
    if report.is_new:
        if pool is None:
            services.create_pool(pool_id=report.pool_id, at=report.at)
        return pool is None
    if pool is not None and pool.status == report.status:
        return False
    change = {"active": services.reopen_pool, "draining": services.drain_pool, "closed": services.close_pool}
    change[report.status](pool_id=report.pool_id, at=report.at)
    return True


def _apply_run(report: RunReport) -> bool:
    run = Workflow.objects.filter(pk=report.workflow_id).first()
    which: dict[str, Any] = {"workflow_id": report.workflow_id, "at": report.at}
    if run is None and report.status in ("pending", "running"):
        if report.pool_id is not None and not Pool.objects.filter(pk=report.pool_id).exists():
            services.create_pool(pool_id=report.pool_id, at=report.at)
        names = [stage.name for stage in report.stages]
        services.create_workflow(**which, adapter=report.adapter, prompt="", stages=names, pool_id=report.pool_id)
    elif run is not None and report.status == "pending":
        return False
    elif run is not None and run.status == report.status:
        same_result = set((report.result or {}).items()) <= set((run.result or {}).items())
        same_error = report.status == "running" or run.error == report.error
        if same_result if report.status == "completed" else same_error:
            return False
    if report.status == "running":
        services.start_workflow(**which)
    elif report.status == "completed":
        services.complete_workflow(**which, result=report.result)
    elif report.status == "failed":
        services.fail_workflow(**which, error=report.error)
    elif report.status == "timeout":
        services.time_out_workflow(**which, error=report.error)
    elif report.status == "cancelled":
        services.cancel_workflow(**which, reason=report.error)
    return True


def _apply_stage(report: StageReport) -> bool:
    which: dict[str, Any] = {
        "workflow_id": report.workflow_id,
        "stage_name": report.stage_name,
        "at": report.at,
    }
    if report.worker_id is not None and not Worker.objects.filter(pk=report.worker_id).exists():
        if not Workflow.objects.filter(pk=report.workflow_id).exists():
            raise services.WorkflowNotFound(report.workflow_id)
        raise services.WorkerNotFound(report.worker_id)
    run = Workflow.objects.filter(pk=report.workflow_id).first()
    stage = Stage.objects.filter(workflow_id=report.workflow_id, name=report.stage_name).first()
    if run is not None and stage is None:
        worker = Worker.objects.filter(pk=report.worker_id).first()
        stage = _add_stage(run, report, report.status, pool_id=report.pool_id or run.pool_id, worker=worker)
    if stage is not None and stage.status == report.status:
        same_result = set((report.result or {}).items()) <= set((stage.result or {}).items())
        same_error = report.status != "failed" or stage.error == report.error
        if (same_result if report.status == "completed" else same_error) and (
            report.worker_id is None or report.worker_id == stage.worker_id
        ):
            return False
    if report.status == "queued":
        services.queue_stage(**which)
    elif report.status == "running":
        services.start_stage(**which, worker_id=report.worker_id)
    elif report.status == "completed":
        services.complete_stage(**which, result=report.result)
    elif report.status == "failed":
        services.fail_stage(**which, error=report.error)
    else:
        services.skip_stage(**which)
    return True


def _add_stage(
    run: Workflow, report: ReportOfStage, status: str, *, pool_id: str | None, worker: Worker | None = None
) -> Stage:
    stage = Stage(workflow=run, name=report.stage_name, position=run.total_stages, pool_id=pool_id)
    pool = Pool.objects.filter(pk=pool_id).first()
    if pool_id is not None:
        stage.pool = pool or Pool(id=pool_id)
    stages.check_stage(stage, StageStatus(status), worker=worker)
    if pool_id is not None and pool is None:
        services.create_pool(pool_id=pool_id, at=report.at)
    with transaction.atomic():
        stage.insert(at=report.at)
    return stage


def _apply_failure(report: AttemptFailure) -> bool:
    which: dict[str, Any] = {"workflow_id": report.workflow_id, "stage_name": report.stage_name, "at": report.at}
    run = Workflow.objects.filter(pk=report.workflow_id).first()
    stage = Stage.objects.filter(workflow_id=report.workflow_id, name=report.stage_name).first()
    if run is not None and stage is None:
        stage = _add_stage(run, report, "running", pool_id=run.pool_id)
    if stage is not None and stage.status in ("pending", "queued"):
        services.start_stage(**which)
    services.requeue_stage(**which, error=report.error, reason=report.reason)
    return True


def _apply_worker(report: WorkerReport) -> bool:
    worker = Worker.objects.filter(pk=report.worker_id).first()
    if report.status not in ("idle", "busy", "error", "offline"):
        services.change_worker_status(worker_id=report.worker_id, status=report.status)
    assert report.pool_id is not None
    must_register = worker is None or (report.is_registration and worker.status == "offline")
    if worker is not None and worker.pool_id != report.pool_id:
        raise services.WorkerInOtherPool(report.worker_id, worker.pool_id, report.pool_id)
    if worker is not None and worker.status == report.status:
        return False
    if worker is None and not Pool.objects.filter(pk=report.pool_id).exists():
        services.create_pool(pool_id=report.pool_id, at=report.at)
    if must_register:
        services.register_worker(worker_id=report.worker_id, pool_id=report.pool_id, at=report.at)
    if not must_register or report.status != "idle":
        services.change_worker_status(worker_id=report.worker_id, status=report.status, at=report.at)
    return True


def stored_state() -> str:
    """Return everything that is stored, as text; without what the database assigns."""
    tables: dict[str, Any] = {}
    for model in (Workflow, Stage, FailedAttempt, Worker, Pool):
        hidden = {"id", "stage_id"} if model in (Stage, FailedAttempt) else set()
        hidden |= {"metrics_published_at", "metrics_dirty_since"}
        if model is Pool:
            hidden |= {"updated_at", "created_at"}
        rows = [{name: value for name, value in row.items() if name not in hidden} for row in model.objects.values()]
        tables[model.__name__] = sorted(rows, key=lambda row: json.dumps(row, default=str, sort_keys=True))
    return json.dumps(tables, default=str, sort_keys=True, indent=1)


def announced(items: Sequence[Any]) -> list[tuple[str, Any]]:
    """Return the events of changes, without those of pool counters: these depend on the transactions."""
    events = [item for item in items if isinstance(item, Announcement)]
    return [(event.name, _data(event)) for event in events if event.name != "pool.status_changed"]


def _data(event: Announcement) -> dict[str, Any]:
    # A pool is new when it is stored.
    return decode_object(encode_data(event.data)) | ({"timestamp": ""} if event.name == "pool.created" else {})
