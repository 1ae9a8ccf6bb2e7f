"""Make the rows of planned stages, and the deadline of their run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any, Final

from django.db.models import F

from orchestration.db.clock import database_now
from orchestration.models import Stage, StageMap, StageStatus, Wait, Workflow
from orchestration.plan import StagePlan
from orchestration.services import validation

UNSTARTED: Final[dict[str, Any]] = {
    "status": StageStatus.PENDING,
    **dict.fromkeys(("worker", "result", "duration_ms", "progress", "finished_at")),
    "error": "",
    "skip_reason": "",
    "progress_message": "",
    "lost_attempts": 0,
}
"""What a stage has that has not started since it was last reset."""


def deadline_of(workflow: Workflow) -> datetime | None:
    """Return when a run that starts now times out, on the clock of the database; None if it has no limit."""
    seconds = (workflow.plan or {}).get("timeout_seconds")
    return None if seconds is None else database_now() + timedelta(seconds=seconds)


def pool_of(stage_plan: StagePlan, pool_id: str | None) -> str | None:
    """Return the pool of a stage of a run in this pool: its own, if it has one.

    A hosted stage takes no slot of a pool, so none counts it.
    """
    return None if stage_plan.hosted else stage_plan.pool or pool_id


def count_planned(pool_id: str) -> int:
    """Return how many stages of the engine will be queued in a pool, unless their runs end before.

    They are pending or wait inside of their function, or are maps that have not stored all of their items yet.
    """
    planned = Stage.objects.filter(pool_id=pool_id, plan__isnull=False)
    waiting = {"stage__pool_id": pool_id, "stage__status": StageStatus.WAITING}
    # One query would make Postgres read all open waits of all pools.
    return (
        planned.filter(status=StageStatus.PENDING).count()
        + Wait.objects.open().filter(resumes=True, **waiting).count()
        + StageMap.objects.filter(stored__lt=F("total"), **waiting).count()
    )


def own_pools(stage_plans: Iterable[StagePlan], before: str = "") -> str:
    """Return the own pools of stages as `Workflow.own_pools`, with those that it had before."""
    pools = {stage_plan.pool for stage_plan in stage_plans if stage_plan.pool}
    return "\n".join(sorted(pools.union(before.splitlines())))


def planned_stage(workflow: Workflow, stage_plan: StagePlan, *, position: int) -> Stage:
    """Return a pending stage of a workflow, which is not stored."""
    return Stage(
        workflow=workflow,
        name=stage_plan.name,
        position=position,
        pool_id=pool_of(stage_plan, workflow.pool_id),
        step=stage_plan.step,
        hosted=stage_plan.hosted,
        last_attempt=stage_plan.retries.max_attempts,
        plan=validation.json_object("options", stage_plan.to_json()),
    )
