"""Start wide runs, and read which of their stages are dispatched."""

from __future__ import annotations

from orchestration import services
from orchestration.models import Stage, StageStatus, Workflow
from orchestration.plan import Plan, Retry, StagePlan
from tests.services.broker_worker import BrokerWorker

WIDTH = 20


def start_run(pool_id: str, *, workflow_id: str = "wide", width: int = WIDTH, before: int = 0, **retry: float) -> None:
    """Start a run with `before` single stages, a step of parallel stages, and a last stage."""
    retries = Retry(**retry)  # type: ignore[arg-type]
    stages = [StagePlan(name=f"before_{number}", step=number) for number in range(before)]
    stages += [StagePlan(name=f"part_{number}", step=before, retries=retries) for number in range(width)]
    stages += [StagePlan(name="last", step=before + 1)]
    plan = Plan(name="wide", adapter="python", stages=tuple(stages))
    services.start_run(plan, prompt="", params={}, pool_id=pool_id, workflow_id=workflow_id)


def join_workers(pool_id: str, count: int) -> list[BrokerWorker]:
    return [BrokerWorker(pool_id=pool_id, name=f"{pool_id}-{number}") for number in range(count)]


def dispatched(workflow_id: str = "wide") -> list[str]:
    """Return the names of the stages that are dispatched and not claimed, in the order of their positions."""
    stages = Stage.objects.filter(workflow_id=workflow_id, status=StageStatus.QUEUED, dispatch_due_at__isnull=False)
    return list(stages.order_by("position").values_list("name", flat=True))


def is_marked(workflow_id: str = "wide") -> bool:
    return Workflow.objects.get(pk=workflow_id).has_undispatched_stages


def parts(*numbers: int) -> list[str]:
    return [f"part_{number}" for number in numbers]
