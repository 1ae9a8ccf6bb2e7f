"""Runs of one stage with one attempt, and worker processes that may run them."""

from __future__ import annotations

from orchestration import services
from orchestration.models import Stage
from orchestration.plan import Plan, Retry, StagePlan

_PLAN = Plan(name="one_stage", adapter="python", stages=(StagePlan(name="one", step=0, retries=Retry(max_attempts=1)),))


def start_run(workflow_id: str = "wf", *, release: str = "") -> Stage:
    run = services.start_run(_PLAN, prompt="", params={}, pool_id="pool", workflow_id=workflow_id, release=release)
    return run.stages.get()


def join(process: str, *, release: str = "") -> services.Slot:
    worker_id = services.join_pool(name=process, process=process, pool_id="pool", release=release)
    return services.Slot(worker_id=worker_id, process=process)
