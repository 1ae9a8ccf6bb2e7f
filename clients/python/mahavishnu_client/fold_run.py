"""What each event changes in the state of a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from msgspec.structs import replace

from mahavishnu_client import messages as m
from mahavishnu_client.fold_rows import RUN_ROW_FOLDS
from mahavishnu_client.fold_stage import FINISHED_STAGE_STATUSES, STAGE_FOLDS, WITHOUT_SUB_RUNS
from mahavishnu_client.state import Run, StageState


def _created(run: Run | None, data: m.WorkflowCreated) -> Run:
    stages = tuple(
        StageState(position=position, stage_name=stage.stage_name, step=stage.step, last_attempt=stage.last_attempt)
        for position, stage in enumerate(data.stages)
    )
    return Run(
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
        adapter=data.adapter,
        prompt=data.prompt,
        params=data.params,
        deadline_at=data.deadline_at,
        result=None,
        error="",
        stage_counts={"pending": data.total_stages} if data.total_stages else {},
        stages=stages,
        truncated=len(stages) < data.total_stages,
    )


def _completed(run: Run, data: m.WorkflowCompleted) -> Run:
    started_at = run.started_at or data.timestamp
    return _finished(run, "completed", "skipped", data.timestamp, result=data.result, error="", started_at=started_at)


def _failed(run: Run, data: m.WorkflowFailed) -> Run:
    return _finished(run, data.status, "cancelled", data.timestamp, error=data.error)


def _cancelled(run: Run, data: m.WorkflowCancelled) -> Run:
    return _finished(run, "cancelled", "cancelled", data.timestamp, error=data.reason)


def _finished(run: Run, status: str, stage_status: str, at: datetime, **changes: Any) -> Run:
    counts = {status: count for status, count in run.stage_counts.items() if status in FINISHED_STAGE_STATUSES}
    stages = run.stages
    if len(counts) < len(run.stage_counts):
        unfinished = sum(count for status, count in run.stage_counts.items() if status not in FINISHED_STAGE_STATUSES)
        counts[stage_status] = counts.get(stage_status, 0) + unfinished
        stages = tuple(
            stage
            if stage.status in FINISHED_STAGE_STATUSES
            else replace(stage, status=stage_status, finished_at=at, retry_at=None, wait=None, **WITHOUT_SUB_RUNS)
            for stage in stages
        )
    return replace(
        run, status=status, finished_at=at, deadline_at=None, held=None, stage_counts=counts, stages=stages, **changes
    )


def _retried(run: Run, data: m.WorkflowRetried) -> Run:
    last_attempts = {stage.stage_name: stage.last_attempt for stage in data.stages}
    stages = tuple(
        replace(
            stage,
            status="pending",
            worker_id=None,
            last_attempt=last_attempts[stage.stage_name],
            finished_at=None,
            duration_ms=None,
            progress=None,
            message="",
            error="",
            retry_at=None,
            items=None,
            skip_reason="",
        )
        if stage.stage_name in last_attempts
        else stage
        for stage in run.stages
    )
    # A stage is either one of those, or completed, or stays skipped.
    rerun = sum(stage.status == "skipped" and stage.stage_name in last_attempts for stage in run.stages)
    skipped = run.stage_counts.get("skipped", 0) - rerun
    pending = data.total_stages - data.stages_completed - skipped
    counts = {"completed": data.stages_completed, "skipped": skipped, "pending": pending}
    return replace(
        run,
        status="running",
        finished_at=None,
        result=None,
        error="",
        deadline_at=data.deadline_at,
        stages_completed=data.stages_completed,
        stage_counts={status: count for status, count in counts.items() if count},
        stages=stages,
        truncated=run.truncated or len(last_attempts) < pending,
    )


def _removed(run: Run, data: m.WorkflowRemoved) -> None:
    return None


RUN_FOLDS: Final[Mapping[type[Any], Callable[[Any, Any], Run | None]]] = {
    m.WorkflowCreated: _created,
    m.WorkflowCompleted: _completed,
    m.WorkflowFailed: _failed,
    m.WorkflowCancelled: _cancelled,
    m.WorkflowRetried: _retried,
    m.WorkflowRemoved: _removed,
    **RUN_ROW_FOLDS,
    **STAGE_FOLDS,
}
