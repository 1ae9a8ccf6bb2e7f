"""What each event of a stage changes in the state of its run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from msgspec.structs import replace

from mahavishnu_client import messages as m
from mahavishnu_client.state import ItemCounts, OpenedStream, OpenWait, Run, StageState

WITHOUT_SUB_RUNS: Final[Mapping[str, Any]] = {"waits_for_runs": (), "waits_for_count": 0}
"""The fields of a stage that waits for no sub-runs."""

FINISHED_STAGE_STATUSES: Final = frozenset({"completed", "failed", "skipped", "cancelled"})


def _stages_queued(run: Run, data: m.WorkflowStagesQueued) -> Run:
    names = None if data.stages is None else frozenset(data.stages)
    stages = list(run.stages)
    counts = run.stage_counts
    unlisted = data.count
    for index, stage in enumerate(stages):
        if names is None:
            is_queued = stage.step == data.step and stage.status == "pending" and stage.retry_at is None
        else:
            is_queued = stage.stage_name in names
        if is_queued:
            stages[index] = replace(stage, status="queued", queued_at=data.timestamp, retry_at=None)
            counts = _count(counts, stage.status, "queued")
            unlisted -= 1
    if run.truncated and unlisted > 0:
        counts = _count(counts, "pending", "queued", unlisted)
    return replace(run, stages=tuple(stages), stage_counts=counts)


def _stage_started(run: Run, data: m.WorkflowStageStarted) -> Run:
    return _change_stage(
        run,
        data.stage_name,
        "running",
        ("queued", "pending"),
        worker_id=data.worker_id,
        attempt=data.attempt,
        started_at=data.timestamp,
        finished_at=None,
        progress=None,
        message="",
        retry_at=None,
    )


def _stage_completed(run: Run, data: m.WorkflowStageCompleted) -> Run:
    changes = {"error": "", "duration_ms": data.duration_ms, "finished_at": data.timestamp, "retry_at": None}
    run = replace(run, stages_completed=data.stages_completed)
    return _change_stage(run, data.stage_name, "completed", ("running", "waiting", "queued", "pending"), **changes)


def _stage_failed(run: Run, data: m.WorkflowStageFailed) -> Run:
    return _change_stage(
        run,
        data.stage_name,
        "failed",
        ("running", "waiting", "queued", "pending"),
        error=data.error,
        duration_ms=data.duration_ms,
        last_attempt=data.last_attempt,
        finished_at=data.timestamp,
        retry_at=None,
    )


def _stage_waits_again(run: Run, data: m.WorkflowStageRetrying | m.WorkflowStageReleased) -> Run:
    changes = {"retry_at": data.retry_at, "last_attempt": data.last_attempt}
    return _change_stage(run, data.stage_name, "pending", ("running",), **changes)


def _stage_progress(run: Run, data: m.WorkflowStageProgress) -> Run:
    return _change_stage(run, data.stage_name, None, (), progress=data.progress, message=data.message)


def _map_changed(run: Run, data: m.WorkflowMapStarted | m.WorkflowMapProgress) -> Run:
    items = ItemCounts(total=data.total, completed=data.completed, failed=data.failed, running=data.running)
    status = "waiting" if isinstance(data, m.WorkflowMapStarted) else None
    return _change_stage(run, data.stage_name, status, ("running", "pending"), items=items)


def _waiting(run: Run, data: m.WorkflowWaiting) -> Run:
    wait = OpenWait(
        wait_id=data.wait_id,
        name=data.wait_name,
        kind=data.kind,
        title=data.title,
        schema=data.schema,
        recipients=tuple(data.recipients),
        opened_at=data.timestamp,
        expires_at=data.expires_at,
    )
    return _change_stage(run, data.stage_name, "waiting", ("running",), wait=wait, last_attempt=data.last_attempt)


def _wait_ended(run: Run, data: m.WorkflowWaitAnswered | m.WorkflowWaitExpired) -> Run:
    return _change_stage(run, data.stage_name, "pending" if data.resumes else None, ("waiting",), wait=None)


def _unchanged(run: Run, data: m.WorkflowStageLog | m.WorkflowStepCompleted) -> Run:
    return run


def _stream_opened(run: Run, data: m.WorkflowStreamOpened) -> Run:
    stage = next((stage for stage in run.stages if stage.stage_name == data.stage_name), None)
    if stage is None:
        return run
    opened = OpenedStream(name=data.stream_name, attempt=data.attempt, content_type=data.content_type)
    others = (stream for stream in stage.streams if stream.name != data.stream_name)
    streams = tuple(sorted((*others, opened), key=lambda stream: stream.name))
    return _change_stage(run, data.stage_name, None, (), streams=streams)


def _stage_status_changed(run: Run, data: m.WorkflowStageStatusChanged) -> Run:
    finished_at = data.timestamp if data.status in FINISHED_STAGE_STATUSES else None
    run = replace(run, stages_completed=data.stages_completed)
    before = ("pending", "queued", "running")
    changes: dict[str, Any] = {"finished_at": finished_at, "retry_at": None, "skip_reason": data.reason or ""}
    changes |= {"waits_for_runs": tuple(data.waits_for_runs or ()), "waits_for_count": data.waits_for_count or 0}
    return _change_stage(run, data.stage_name, data.status, before, **changes)


def _stage_added(run: Run, data: m.WorkflowStageAdded) -> Run:
    stages = run.stages
    if data.moved_steps:
        stages = tuple(
            stage if stage.step < data.step else replace(stage, step=stage.step + data.moved_steps) for stage in stages
        )
    # A second event follows if its status is another one.
    added = StageState(
        position=data.position,
        stage_name=data.stage_name,
        step=data.step,
        status="pending",
        last_attempt=data.last_attempt,
    )
    before = sum(stage.position < data.position for stage in stages)
    if not run.truncated or before < len(stages):
        stages = (*stages[:before], added, *stages[before:])
    return replace(
        run,
        stages=stages,
        stage_counts=_count(run.stage_counts, None, added.status),
        total_stages=data.total_stages,
        stages_completed=data.stages_completed,
    )


def _stage_removed(run: Run, data: m.WorkflowStageRemoved) -> Run:
    removed = next((stage for stage in run.stages if stage.stage_name == data.stage_name), None)
    status: str | None
    if removed is not None:
        status = removed.status
    else:
        status = "completed" if data.stages_completed < run.stages_completed else _first(run.stage_counts, ("pending",))
    return replace(
        run,
        stages=tuple(stage for stage in run.stages if stage is not removed),
        stage_counts=_count(run.stage_counts, status, None),
        total_stages=data.total_stages,
        stages_completed=data.stages_completed,
    )


def _change_stage(run: Run, name: str, status: str | None, before: Iterable[str], **changes: Any) -> Run:
    """Change a stage, and its status unless that is None. One that is not listed had the first counted of `before`."""
    index = next((index for index, stage in enumerate(run.stages) if stage.stage_name == name), None)
    if index is None:
        if status is None or not run.truncated:
            return run
        return replace(run, stage_counts=_count(run.stage_counts, _first(run.stage_counts, before), status))
    stage = run.stages[index]
    stages = list(run.stages)
    if status is None or status == stage.status:
        stages[index] = replace(stage, **changes)
        return replace(run, stages=tuple(stages))
    if stage.waits_for_count:
        changes = {**WITHOUT_SUB_RUNS, **changes}
    stages[index] = replace(stage, status=status, **changes)
    return replace(run, stages=tuple(stages), stage_counts=_count(run.stage_counts, stage.status, status))


def _count(counts: Mapping[str, int], before: str | None, after: str | None, amount: int = 1) -> dict[str, int]:
    """Return the counts after stages have left the status `before`, and entered `after`."""
    counts = dict(counts)
    if before is not None:
        left = counts.get(before, 0) - amount
        if left > 0:
            counts[before] = left
        else:
            counts.pop(before, None)
    if after is not None:
        counts[after] = counts.get(after, 0) + amount
    return counts


def _first(counts: Mapping[str, int], statuses: Iterable[str]) -> str | None:
    return next((status for status in statuses if status in counts), None)


STAGE_FOLDS: Final[Mapping[type[Any], Callable[[Any, Any], Run]]] = {
    m.WorkflowStagesQueued: _stages_queued,
    m.WorkflowStageStarted: _stage_started,
    m.WorkflowStageCompleted: _stage_completed,
    m.WorkflowStageFailed: _stage_failed,
    m.WorkflowStageRetrying: _stage_waits_again,
    m.WorkflowStageReleased: _stage_waits_again,
    m.WorkflowStageProgress: _stage_progress,
    m.WorkflowMapStarted: _map_changed,
    m.WorkflowMapProgress: _map_changed,
    m.WorkflowWaiting: _waiting,
    m.WorkflowWaitAnswered: _wait_ended,
    m.WorkflowWaitExpired: _wait_ended,
    m.WorkflowStageLog: _unchanged,
    m.WorkflowStepCompleted: _unchanged,
    m.WorkflowStreamOpened: _stream_opened,
    m.WorkflowStageStatusChanged: _stage_status_changed,
    m.WorkflowStageAdded: _stage_added,
    m.WorkflowStageRemoved: _stage_removed,
}
