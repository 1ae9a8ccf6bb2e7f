"""What happens to runs of the engine."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Literal

from django.db.models import QuerySet

from orchestration import services
from orchestration.models import FailureReason, Stage, StageStatus, Worker, Workflow, WorkflowStatus
from orchestration.plan import Each, Plan, Retry, StagePlan
from orchestration.services.retention import PruningSweep, RunRetention
from realtime.eventlog.retention import Retention, prune_events
from tests.fold.day import MAX_RUNS, Day, NotPossible, operation

RETRIES = {"none": Retry(), "at once": Retry(max_attempts=3, backoff_seconds=0), "later": Retry(max_attempts=3)}
# The steps of the stages of a run; a negative number is that of a hosted stage, less 1.
SHAPES = {
    "one": (0,),
    "chain": (0, 1, 2),
    "parallel": (0, 0, 1),
    "wide": (0, 0, 0, 0, 0, 0, 1),
    "wide later": (0, 1, 1, 1, 1, 1, 1),
    "hosted": (0, -1, -1, 1),
    "wide with a hosted stage": (0, 0, 0, 0, 0, 0, -1, 1),
    "map": (0, 1, 2),
    "two maps": (0, 1, 1, 2),
}
# The numbers of the stages that run once for each value of a list.
MAPS = {"map": (1,), "two maps": (1, 2)}


# What a stage adds as it completes.
ADDED = {
    "one": (StagePlan(name="added", step=0),),
    "two steps": (StagePlan(name="added", step=0), StagePlan(name="s1", step=1), StagePlan(name="last", step=1)),
}


def plan_of(shape: str, retries: str, timeout_seconds: float | None) -> Plan:
    stages = tuple(
        StagePlan(
            name=f"s{number}",
            step=step if step >= 0 else -step - 1,
            hosted=step < 0,
            retries=RETRIES[retries],
            each=Each(of="s0", limit=2, allow_failed=number) if number in MAPS.get(shape, ()) else None,
        )
        for number, step in enumerate(SHAPES[shape])
    )
    return Plan(name=shape, adapter="python", stages=stages, timeout_seconds=timeout_seconds)


@operation(8)
def start_run(day: Day) -> None:
    if Workflow.objects.count() >= MAX_RUNS:
        raise NotPossible
    plan = plan_of(day.choose(sorted(SHAPES)), day.choose(sorted(RETRIES)), day.choose((None, None, 20.0, 2000.0)))
    workflow_id = day.new_id("run")
    pool_id, release = day.choose(("pool1", "pool2", "pool3")), day.choose(("", "", "2"))
    day.log(f"{workflow_id} ({plan.name}) in {pool_id}, release {release!r}")
    services.start_run(
        plan,
        prompt="Write code",
        params={"length": day.choose((1, 2))},
        pool_id=pool_id,
        workflow_id=workflow_id,
        release=release,
        key=day.choose((None, "key")),
    )


def engine_stages(*statuses: str, hosted: bool = False) -> QuerySet[Stage]:
    return Stage.objects.filter(plan__isnull=False, hosted=hosted, status__in=statuses)


def slot_of(worker: Worker) -> services.Slot:
    return services.Slot(worker_id=worker.pk, process=worker.process)


def running_attempt(day: Day) -> tuple[Stage, services.Slot]:
    """Choose a running stage and its worker."""
    stage = day.pick(engine_stages(StageStatus.RUNNING).filter(worker__isnull=False))
    worker = Worker.objects.filter(pk=stage.worker_id).first()
    if worker is None:
        raise NotPossible
    return stage, slot_of(worker)


@operation(4)
def claim_stage(day: Day) -> None:
    stage = day.pick(engine_stages(StageStatus.QUEUED))
    of_pool = Worker.objects.filter(pool_id=stage.pool_id).exclude(process="")
    worker = day.pick(of_pool)
    lacks = services.Requirement("shop:load", "ModuleNotFoundError") if day.maybe(5) else None
    services.claim_stage(stage.pk, stage.attempt + 1, slot=slot_of(worker), find_missing=lambda _: lacks)


@operation(16)
def claim_all(day: Day) -> None:
    """Give every idle worker a stage, so that a day is not only idle."""
    for worker in Worker.objects.exclude(process="").filter(stage=None, draining=False).order_by("pk"):
        stage = engine_stages(StageStatus.QUEUED).filter(pool_id=worker.pool_id).order_by("pk").first()
        if stage is not None:
            day.log(f"{stage} on {worker.pk}")
            services.claim_stage(stage.pk, stage.attempt + 1, slot=slot_of(worker))


@operation(24)
def complete_attempt(day: Day) -> None:
    stage, slot = running_attempt(day)
    lacks = services.Requirement("shop:load") if day.maybe(6) else None
    which: dict[str, Any] = {"slot": slot, "continue_inline": (lambda _: lacks) if day.maybe() else None}
    if stage.stage_plan.each is not None:
        services.start_map(stage.pk, stage.attempt, values=list(range(day.choose((0, 1, 3, 7)))), **which)
    elif day.maybe(8):
        services.skip_attempt(stage.pk, stage.attempt, reason="Nothing to do", **which)
    else:
        added = ADDED[day.choose(sorted(ADDED))] if stage.item_of_id is None and day.maybe(4) else ()
        output = day.choose(({"answer": 42}, None, "x" * 70_000))
        services.complete_attempt(stage.pk, stage.attempt, output=output, next_stages=added, **which)


@operation(8)
def fail_attempt(day: Day) -> None:
    stage, slot = running_attempt(day)
    error = day.choose(("It broke", "It broke", "long " * 1000))
    services.fail_attempt(stage.pk, stage.attempt, slot=slot, error=error, may_retry=not day.maybe(4))


@operation(5)
def release_attempt(day: Day) -> None:
    stage, slot = running_attempt(day)
    reason = day.choose((FailureReason.RELEASED, FailureReason.LOST))
    missing = services.Requirement("git") if day.maybe() else None
    services.release_attempt(stage.pk, stage.attempt, slot=slot, error="Stopped", reason=reason, missing=missing)


@operation(3)
def report(day: Day) -> None:
    stage = day.pick(engine_stages(StageStatus.RUNNING))
    services.report_progress(stage.pk, stage.attempt, progress=day.choose((0.0, 0.5)), message=day.choose(("", "half")))
    services.report_message(stage.pk, stage.attempt, message="A line")
    content_type: Literal["text", "bytes"] = day.choose(("text", "bytes"))
    services.open_stream(stage.pk, stage.attempt, name=day.choose(("answer", "Z", "log")), content_type=content_type)


@operation(4)
def change_hosted_stage(day: Day) -> None:
    stage = day.pick(engine_stages(StageStatus.PENDING, StageStatus.RUNNING, hosted=True))
    which: dict[str, Any] = {"workflow_id": stage.workflow_id, "stage_name": stage.name}
    match day.choose(("start", "complete", "fail", "skip")):
        case "start":
            services.start_stage(**which)
        case "complete":
            services.complete_stage(**which, result={"output": 1})
        case "fail":
            services.fail_stage(**which, error="It broke")
        case "skip":
            services.skip_stage(**which)


@operation(2)
def skip_stage(day: Day) -> None:
    stage = day.pick(engine_stages(StageStatus.PENDING, StageStatus.QUEUED))
    services.skip_stage(workflow_id=stage.workflow_id, stage_name=stage.name)


@operation(4)
def end_workflow(day: Day) -> None:
    """End any unfinished workflow, of the engine or not."""
    workflow = day.pick(Workflow.objects.filter(finished_at=None))
    match day.choose(("cancel", "time out", "fail", "complete")):
        case "cancel":
            services.cancel_workflow(workflow_id=workflow.pk, reason=day.choose(("", "No longer needed")))
        case "time out":
            services.time_out_workflow(workflow_id=workflow.pk)
        case "fail":
            services.fail_workflow(workflow_id=workflow.pk, error="It broke")
        case "complete" if workflow.plan is None:
            services.complete_workflow(workflow_id=workflow.pk, result={"final_output": 1})


@operation(6)
def retry_run(day: Day) -> None:
    workflow = day.pick(Workflow.objects.filter(finished_at__isnull=False, plan__isnull=False))
    stages = list(workflow.stages.filter(item_of=None).order_by("position").values_list("name", flat=True))
    from_stage = day.choose((None, None, *stages))
    if workflow.status == WorkflowStatus.COMPLETED and from_stage is None:
        from_stage = stages[0]
    failed_items_only = from_stage is not None and day.maybe(4)
    services.retry_run(workflow_id=workflow.pk, from_stage=from_stage, failed_items_only=failed_items_only)


@operation(3)
def reassign_workflows(day: Day) -> None:
    workflow = day.pick(Workflow.objects.filter(finished_at=None))
    to_pool_id = day.choose(("pool1", "pool2", "pool3"))
    if workflow.pool_id is not None and day.maybe(4):
        services.reassign_workflows(pool_id=workflow.pool_id, to_pool_id=to_pool_id)
    else:
        services.reassign_workflow(workflow_id=workflow.pk, to_pool_id=to_pool_id)


@operation(2)
def prune_runs(day: Day) -> None:
    sweep = PruningSweep(RunRetention(max_runs=day.choose((0, 1, 3))))
    while sweep.prune_block() is not None:
        pass


@operation()
def prune_log(day: Day) -> None:
    keep = day.choose((0, 20, 100))
    retention = Retention(max_events=keep, max_age=timedelta(days=7), min_age=timedelta())
    prune_events(retention, at=day.now)
