"""What another application does with the models: `save()` and `delete()`, as in the admin."""

from __future__ import annotations

from orchestration.models import Pool, PoolStatus, Stage, StageStatus, Worker, WorkerStatus, Workflow, WorkflowStatus
from orchestration.services.transitions import STAGE_TRANSITIONS, WORKFLOW_TRANSITIONS
from tests.fold.day import MAX_RUNS, Day, NotPossible, operation


@operation()
def save_workflow_status(day: Day) -> None:
    workflow = day.pick(Workflow.objects.filter(finished_at=None, plan__isnull=True))
    workflow.status = day.choose(sorted(WORKFLOW_TRANSITIONS[workflow.status]))
    workflow.save()


@operation()
def save_workflow_pool(day: Day) -> None:
    workflow = day.pick(Workflow.objects.filter(plan__isnull=True))
    workflow.pool = day.choose((None, *Pool.objects.exclude(status="closed").order_by("pk")))
    workflow.save(update_fields=["pool"])


@operation()
def insert_workflow(day: Day) -> None:
    if Workflow.objects.count() >= MAX_RUNS:
        raise NotPossible
    pool = day.choose((None, *Pool.objects.exclude(status="closed").order_by("pk")))
    Workflow(pk=day.new_id("saved"), adapter="other", pool=pool, status=day.choose(WorkflowStatus.values)).save()


@operation(3)
def delete_workflow(day: Day) -> None:
    day.pick(Workflow.objects.exclude(finished_at=None) | Workflow.objects.filter(plan__isnull=True)).delete()


@operation(2)
def insert_stage(day: Day) -> None:
    workflow = day.pick(Workflow.objects.filter(plan__isnull=True))
    positions = set(workflow.stages.values_list("position", flat=True))
    position = day.choose(day.some([number for number in range(6) if number not in positions]))
    Stage(workflow=workflow, name=f"added{position}", position=position, status=day.choose(StageStatus.values)).save()


@operation(2)
def save_stage_status(day: Day) -> None:
    stage = day.pick(Stage.objects.filter(workflow__plan__isnull=True, finished_at=None))
    stage.status = day.choose(sorted({*STAGE_TRANSITIONS[stage.status], StageStatus.CANCELLED, StageStatus.PENDING}))
    fields = ["status"]
    if stage.status == StageStatus.RUNNING:
        stage.worker = day.choose((None, *Worker.objects.order_by("pk")))
        stage.attempt += 1
        fields += ["worker", "attempt"]
    elif stage.status == StageStatus.FAILED:
        stage.error, stage.duration_ms = "It broke", 7
        fields += ["error", "duration_ms"]
    stage.save(update_fields=day.choose((fields, None)))


@operation()
def delete_stage(day: Day) -> None:
    day.pick(Stage.objects.all()).delete()


@operation()
def save_worker(day: Day) -> None:
    worker = day.pick(Worker.objects.filter(process=""))
    worker.status = day.choose(WorkerStatus.values)
    worker.pool = day.pick(Pool.objects.exclude(status="closed"))
    worker.save(update_fields=day.choose((["status"], ["pool"], ["status", "pool"])))


@operation()
def insert_worker(day: Day) -> None:
    pool = day.pick(Pool.objects.exclude(status="closed"))
    Worker(pk=day.choose(("w3", "w4")), pool=pool, status=day.choose(WorkerStatus.values)).save(force_insert=True)


@operation()
def delete_worker(day: Day) -> None:
    day.pick(Worker.objects.all()).delete()


@operation()
def save_pool(day: Day) -> None:
    pool = day.pick(Pool.objects.filter(queue_size=0, tasks_running=0))
    pool.status = day.choose(PoolStatus.values)
    pool.save(update_fields=["status"])


@operation()
def insert_pool(day: Day) -> None:
    Pool(pk=day.choose(("pool1", "pool2", "pool3")), status=day.choose(PoolStatus.values)).save(force_insert=True)


@operation()
def delete_pool(day: Day) -> None:
    day.pick(Pool.objects.all()).delete()
