"""Runs with something that is due, and the clock of the scheduler, for its tests."""

from __future__ import annotations

from datetime import timedelta
from types import SimpleNamespace

import pytest

from orchestration import services
from orchestration.db.clock import database_now
from orchestration.models import Stage, Workflow
from orchestration.plan import Plan, Retry, StagePlan
from orchestration.scheduler import clock as clock_module
from orchestration.scheduler import failures
from orchestration.scheduler import scheduler as scheduler_module


def start_run(workflow_id: str, *, pool_id: str = "pool", timeout_seconds: float | None = None) -> Stage:
    """Start a run of one stage with two attempts, and return the stage."""
    plan = Plan(
        name="scheduled",
        adapter="python",
        stages=(StagePlan(name="one", step=0, retries=Retry(max_attempts=2, backoff_seconds=60)),),
        timeout_seconds=timeout_seconds,
    )
    return services.start_run(plan, prompt="", params={}, pool_id=pool_id, workflow_id=workflow_id).stages.get()


def start_run_with_due_retry(workflow_id: str) -> Stage:
    """Start a run whose first attempt has failed and whose retry is due now."""
    stage = start_run(workflow_id)
    worker_id = services.join_pool(name=workflow_id, process=workflow_id, pool_id="pool")
    slot = services.Slot(worker_id=worker_id, process=workflow_id)
    assert services.claim_stage(stage.pk, 1, slot=slot) is not None
    services.fail_attempt(stage.pk, 1, slot=slot, error="It broke")
    Stage.objects.filter(pk=stage.pk).update(retry_at=database_now() - timedelta(seconds=1))
    return stage


def start_late_run(workflow_id: str) -> None:
    """Start a run whose deadline has passed."""
    start_run(workflow_id, pool_id="other", timeout_seconds=60)
    Workflow.objects.filter(pk=workflow_id).update(deadline_at=database_now() - timedelta(seconds=1))


def status_of(workflow_id: str) -> str:
    return Workflow.objects.get(pk=workflow_id).status


class MonotonicClock:
    """The monotonic clock of the scheduler, which stands still until `advance()`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        for module in (scheduler_module, clock_module, failures):
            monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: self.now))

    def advance(self, seconds: float) -> None:
        self.now += seconds
