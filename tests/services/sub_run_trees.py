"""Start a run with sub-runs, and see how far its stages are."""

from __future__ import annotations

from typing import Any, Final

from orchestration import services
from orchestration.models import Stage, Workflow
from orchestration.plan import Plan, StagePlan
from orchestration.services import ParentAttempt
from tests.services.broker_worker import BrokerWorker, take_messages

PARENT: Final = Plan(
    name="parent", adapter="python", stages=(StagePlan(name="fan", step=0), StagePlan(name="end", step=1))
)
CHILD: Final = Plan(name="child", adapter="python", stages=(StagePlan(name="work", step=0),))


def empty_queues() -> None:
    """Remove what other tests have left in the queues of the pools."""
    for pool_id in ("trees", "children"):
        take_messages(pool_id, at_most=1000)


def start_children(count: int, *, wait: bool = True, **options: Any) -> tuple[BrokerWorker, list[str]]:
    """Start a run whose first stage starts sub-runs, and waits for them."""
    worker = BrokerWorker(pool_id="trees", name="parents")
    services.start_run(PARENT, prompt="", params={}, pool_id="trees", workflow_id="parent")
    claim = worker.take()
    assert claim is not None
    run_ids = [start_child(claim.stage.pk, 1, name=str(number)).pk for number in range(count)]
    if wait:
        assert services.wait_for_sub_runs(
            claim.stage.pk, 1, slot=worker.slot, run_ids=run_ids, is_list=count > 1, **options
        ).accepted
    return worker, run_ids


def start_child(stage_id: int, attempt: int, *, name: str, pool_id: str = "children", **options: Any) -> Workflow:
    parent = ParentAttempt(stage_id=stage_id, attempt=attempt, name=name, **options)
    return services.start_sub_run(CHILD, parent=parent, prompt="", params={}, pool_id=pool_id)


def status_of(workflow_id: str = "parent") -> str:
    return Workflow.objects.get(pk=workflow_id).status


def stages() -> dict[str, str]:
    return dict(Stage.objects.filter(workflow_id="parent").values_list("name", "status"))
