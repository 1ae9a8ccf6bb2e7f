"""What happens to the workflows of an external orchestrator."""

from __future__ import annotations

from typing import Any

from orchestration import services
from orchestration.models import Stage, Worker, Workflow
from orchestration.reporter import reporting_as
from tests.fold.day import MAX_RUNS, Day, NotPossible, operation


@operation(3)
def create_workflow(day: Day) -> None:
    if Workflow.objects.count() >= MAX_RUNS:
        raise NotPossible
    workflow_id = day.new_id("external")
    day.log(workflow_id)
    with reporting_as(day.choose(("", "airflow"))):
        services.create_workflow(
            workflow_id=workflow_id,
            name=day.choose(("", "nightly")),
            adapter="other",
            prompt=day.choose(("", "Write code", "p" * 300)),
            params=day.choose((None, {"a": [1, {"b": None}], "text": "ü"})),
            stages=[f"s{number}" for number in range(day.choose((1, 3)))],
            pool_id=day.choose((None, "pool1", "pool2")),
        )


@operation(4)
def start_workflow(day: Day) -> None:
    services.start_workflow(workflow_id=day.pick(Workflow.objects.filter(status="pending")).pk)


def change_stage(day: Day) -> dict[str, Any]:
    unfinished = Stage.objects.filter(workflow__plan__isnull=True, finished_at=None, workflow__status="running")
    stage = day.pick(unfinished)
    return {"workflow_id": stage.workflow_id, "stage_name": stage.name}


@operation(3)
def queue_external_stage(day: Day) -> None:
    services.queue_stage(**change_stage(day))


@operation(3)
def start_external_stage(day: Day) -> None:
    which = change_stage(day)
    stage = Stage.objects.get(workflow_id=which["workflow_id"], name=which["stage_name"])
    workers = Worker.objects.filter(pool_id=stage.pool_id).order_by("pk").values_list("pk", flat=True)
    services.start_stage(**which, worker_id=day.choose((None, *workers)))


@operation(3)
def complete_external_stage(day: Day) -> None:
    services.complete_stage(**change_stage(day), result=day.choose((None, {"duration_ms": 7}, {"duration_ms": "?"})))


@operation(2)
def fail_external_stage(day: Day) -> None:
    services.fail_stage(**change_stage(day), error=day.choose(("It broke", "")))


@operation()
def skip_external_stage(day: Day) -> None:
    services.skip_stage(**change_stage(day))


@operation()
def complete_workflow(day: Day) -> None:
    workflow = day.pick(Workflow.objects.filter(plan__isnull=True, status="running"))
    services.complete_workflow(workflow_id=workflow.pk, result=day.choose((None, {"final_output": "x" * 70_000})))
