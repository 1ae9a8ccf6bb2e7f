"""What happens to runs and the sub-runs of their stages."""

from __future__ import annotations

from orchestration import services
from orchestration.models import Workflow
from orchestration.plan import Plan, StagePlan
from tests.fold.day import MAX_RUNS, Day, NotPossible, operation
from tests.fold.run_operations import running_attempt

POOLS = ("", "pool1", "pool2")


@operation(6)
def start_sub_run(day: Day) -> None:
    if Workflow.objects.count() >= 2 * MAX_RUNS:
        raise NotPossible
    stage, _ = running_attempt(day)
    stages = (StagePlan(name="s0", step=0), StagePlan(name="s1", step=1, pool=day.choose(POOLS)))
    name, detached = day.choose(("a", "b")), day.maybe(4)
    parent = services.ParentAttempt(stage_id=stage.pk, attempt=stage.attempt, name=name, detached=detached)
    workflow_id = day.new_id("run")
    day.log(f"{workflow_id} of {stage}")
    services.start_sub_run(
        Plan(name="sub-run", adapter="python", stages=stages),
        parent=parent,
        prompt="",
        params={},
        pool_id=day.choose(("pool1", "pool2")),
        workflow_id=workflow_id,
    )


@operation(6)
def wait_for_sub_runs(day: Day) -> None:
    stage, slot = running_attempt(day)
    runs = list(Workflow.objects.filter(parent_stage=stage).order_by("pk").values_list("pk", flat=True))
    if not runs:
        raise NotPossible
    services.wait_for_sub_runs(
        stage.pk,
        stage.attempt,
        slot=slot,
        run_ids=runs,
        max_failed=day.choose((0, 1)),
        is_list=len(runs) > 1,
        continue_inline=services.nothing_missing if day.maybe() else None,
    )


@operation(2)
def cancel_sub_run(day: Day) -> None:
    run = day.pick(Workflow.objects.filter(parent__children_due_at__isnull=False, finished_at=None, detached=False))
    services.cancel_sub_run(run.pk)
