"""Let a stage wait for its sub-runs, and end the stage in the transaction in which the last of them ends.

The stage holds no slot. The end of a sub-run locks its own rows first and then those of its parent; see
`orchestration.models.tracked`. So of two sub-runs that end at the same time, the second one sees the end of the first.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from orchestration import signals
from orchestration.limits import engine_limits
from orchestration.models import (
    FINISHED_WORKFLOW_STATUSES,
    ChildRuns,
    Stage,
    StageStatus,
    Workflow,
    WorkflowStatus,
)
from orchestration.services.advance import NextStep, complete_stage_of_run, queue_step
from orchestration.services.attempt_failures import fail_stage_of_run
from orchestration.services.errors import ServiceError
from orchestration.services.map_items import step_behind
from orchestration.services.row_locks import lock_stage_by_id
from orchestration.text import truncate

_COMPLETED: Final = WorkflowStatus.COMPLETED.value


class NotASubRun(ServiceError):
    """A stage may wait only for runs that it has started itself."""

    def __init__(self, workflow_id: str) -> None:
        self.workflow_id = workflow_id
        super().__init__(workflow_id)

    def __str__(self) -> str:
        return f"Workflow {self.workflow_id} is not a sub-run of this stage; expected a run that ctx.start(…) returned."


def begin_wait(stage: Stage, run_ids: Sequence[str], *, max_failed: int, is_list: bool, at: datetime) -> NextStep:
    """Let a running stage wait for its sub-runs, or end it at once if they have finished.

    Args:
        stage: The stage, locked with its workflow.
        run_ids: The sub-runs; one may be named twice. None of them ends the stage at once.
        max_failed: How many of them may fail.
        is_list: Whether the output of the stage is a list of their outputs, and not the output of the only one.
        at: The time of the change.

    Raises:
        NotASubRun
    """
    own = set(Workflow.objects.filter(parent_stage=stage, pk__in=run_ids).values_list("pk", flat=True))
    for run_id in run_ids:
        if run_id not in own:
            raise NotASubRun(run_id)
    waits = {"waits_for": list(run_ids), "max_failed": max_failed, "is_list": is_list}
    child_runs, _ = ChildRuns.objects.update_or_create(stage=stage, defaults=waits)
    stage.status = StageStatus.WAITING.value
    stage.announces_wait = True
    stage.save_locked(at=at, update_fields=["status"])
    signals.stage_status_changed.send(sender=Stage, stage=stage, awaited_runs=run_ids, at=at)
    return _end_wait(stage, child_runs, at=at) or NextStep(stage.workflow, [])


def wake_parent(workflow: Workflow, *, at: datetime) -> None:
    """End the wait of the stage that waits for a sub-run, if the sub-run was the last one or too many have failed.

    Args:
        workflow: The sub-run, which has finished. Its row is locked and written.
        at: The time of the change.
    """
    stage = lock_stage_by_id(workflow.parent_stage_id or 0)
    if stage is None or stage.status != StageStatus.WAITING or stage.workflow.status != WorkflowStatus.RUNNING:
        return
    child_runs = ChildRuns.objects.filter(pk=stage.pk).first()
    if child_runs is None or workflow.pk not in (child_runs.waits_for or ()):
        return
    if (step := _end_wait(stage, child_runs, at=at)) is not None:
        queue_step(step, at=at)


def _end_wait(stage: Stage, child_runs: ChildRuns, *, at: datetime) -> NextStep | None:
    """End the stage if its sub-runs have finished. Return what follows; None if it waits on."""
    run_ids = child_runs.waits_for or []
    of_stage = Workflow.objects.filter(pk__in=run_ids)
    # Their results may be large, and are needed once: at the end of the last one.
    statuses = dict(of_stage.values_list("pk", "status"))
    finished = {pk for pk, status in statuses.items() if status in FINISHED_WORKFLOW_STATUSES}
    distinct = dict.fromkeys(run_ids)
    failed = [pk for pk in distinct if pk not in statuses or (pk in finished and statuses[pk] != _COMPLETED)]
    if len(failed) > child_runs.max_failed:
        return _fail(stage, _failure(failed[0]), at=at)
    if len(finished) < len(statuses):
        return None
    # Not the key alone: SQLite would make a number of the text "42".
    result_of = dict(of_stage.filter(status=_COMPLETED).values_list("pk", "result"))
    outputs = [(result_of.get(pk) or {}).get("final_output") for pk in run_ids]
    output = outputs if child_runs.is_list else outputs[0]
    size_bytes, max_bytes = len(json.dumps(output, ensure_ascii=False).encode()), engine_limits().max_result_bytes
    if size_bytes > max_bytes:
        error = f"The outputs of the sub-runs are {size_bytes} bytes of JSON; at most {max_bytes} are stored"
        return _fail(stage, error, at=at)
    complete_stage_of_run(stage, output, at=at)
    return step_behind(stage, at=at)


def _fail(stage: Stage, error: str, *, at: datetime) -> NextStep:
    fail_stage_of_run(stage.mark_locked(), error=error, at=at)
    return NextStep(stage.workflow, [])


def _failure(run_id: str) -> str:
    run = Workflow.objects.filter(pk=run_id).values_list("name", "status", "error").first()
    if run is None:
        return f"The sub-run {run_id} was removed"
    name, status, error = run
    text = f"The sub-run {name or run_id} ({run_id}) has status {status}{f': {error}' if error else ''}"
    return truncate(text, engine_limits().max_error_characters)
