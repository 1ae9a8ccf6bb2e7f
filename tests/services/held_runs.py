"""Runs whose stages are refused, and their holds."""

from __future__ import annotations

from datetime import timedelta

import pytest

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.models import Stage, Workflow
from orchestration.plan import Plan, StagePlan
from orchestration.services.holds import runs_with_outdated_hold


def start_parallel_run(stages: int) -> list[Stage]:
    """Start a run of stages of one step, and return them in order."""
    plan = Plan(name="held", adapter="python", stages=tuple(StagePlan(name=f"s{n}", step=0) for n in range(stages)))
    run = services.start_run(plan, prompt="", params={}, pool_id="pool", workflow_id="wf")
    return list(run.stages.order_by("position"))


def hold_of(workflow_id: str = "wf") -> tuple[str, str]:
    workflow = Workflow.objects.get(pk=workflow_id)
    assert bool(workflow.held_reason) == (workflow.held_since is not None)
    return workflow.held_reason, workflow.held_needs


def lacking(code: str) -> dict[str, object]:
    """Return the argument of `claim_stage` for a worker that lacks this code."""
    return {"find_missing": lambda stage: services.Requirement(code)}


def refuse(slot: services.Slot, stage: Stage, code: str = "shop:load") -> None:
    with pytest.raises(services.StageNotRunnable) as refused:
        services.claim_stage(stage.pk, 1, slot=slot, **lacking(code))  # type: ignore[arg-type]
    assert str(refused.value) == f"Worker {slot.worker_id} cannot run the stage: it needs {code}."


def end_holds() -> list[str]:
    """End holds as the scheduler does, and return the runs that were held."""
    return [run.pk for run in runs_with_outdated_hold() if services.end_outdated_hold(run.pk)]


def dispatch_again(stage: Stage, *, after: float) -> bool:
    """Dispatch a refused stage as the scheduler does when this many seconds have passed. Return whether it was due."""
    return services.dispatch_refused([stage.pk], now=database_now() + timedelta(seconds=after)) == 1
