"""Make the rows of planned stages, and the deadline of their run."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from orchestration.db.clock import database_now
from orchestration.models import Stage, StageStatus, Workflow
from orchestration.plan import StagePlan
from orchestration.services import validation

UNSTARTED: Final[dict[str, Any]] = {
    "status": StageStatus.PENDING,
    **dict.fromkeys(("worker", "result", "duration_ms", "progress", "finished_at")),
    "error": "",
    "progress_message": "",
    "lost_attempts": 0,
}
"""What a stage has that has not started since it was last reset."""


def deadline_of(workflow: Workflow) -> datetime | None:
    """Return when a run that starts now times out, on the clock of the database; None if it has no limit."""
    seconds = (workflow.plan or {}).get("timeout_seconds")
    return None if seconds is None else database_now() + timedelta(seconds=seconds)


def planned_stage(workflow: Workflow, stage_plan: StagePlan, *, position: int) -> Stage:
    """Return a pending stage of a workflow, which is not stored."""
    return Stage(
        workflow=workflow,
        name=stage_plan.name,
        position=position,
        # A hosted stage takes no slot of the pool, so the pool does not count it.
        pool_id=None if stage_plan.hosted else workflow.pool_id,
        step=stage_plan.step,
        hosted=stage_plan.hosted,
        last_attempt=stage_plan.retries.max_attempts,
        plan=validation.json_object("options", stage_plan.to_json()),
    )
