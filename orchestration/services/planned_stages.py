"""Make the rows of planned stages."""

from __future__ import annotations

from orchestration.models import Stage, Workflow
from orchestration.plan import StagePlan
from orchestration.services import validation


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
