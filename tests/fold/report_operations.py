"""What an orchestrator elsewhere reports, several events in one transaction."""

from __future__ import annotations

from typing import Any

from django.utils import timezone

from orchestration.models import Pool, StageStatus, Workflow, WorkflowStatus
from orchestration.reporter import reporting_as
from orchestration.services.report_types import (
    PoolMetricsReport,
    Report,
    ReportedStage,
    RunReport,
    StageReport,
    WorkerReport,
)
from orchestration.services.reports import apply_reports
from tests.fold.day import MAX_RUNS, Day, NotPossible, operation


@operation(4)
def report_events(day: Day) -> None:
    runs = list(Workflow.objects.filter(plan=None, finished_at=None).order_by("pk").values_list("pk", flat=True))
    if not runs or (Workflow.objects.count() < MAX_RUNS and day.choose((True, False))):
        if Workflow.objects.count() >= MAX_RUNS:
            raise NotPossible
        runs.append(day.new_id("reported"))
        day.log(runs[-1])
    workflow_id = day.choose(runs)
    with reporting_as("airflow"):
        apply_reports([_report(day, workflow_id) for _ in range(day.choose((1, 5)))], all_or_nothing=False)


def _report(day: Day, workflow_id: str) -> Report:
    at = timezone.now()
    of_run: dict[str, Any] = {"at": at, "workflow_id": workflow_id}
    kind = day.choose(("run", "stage", "stage", "stage", "worker", "metrics"))
    if kind == "run":
        return RunReport(
            **of_run,
            status=day.choose((WorkflowStatus.RUNNING, WorkflowStatus.RUNNING, *WorkflowStatus)),
            adapter="airflow",
            pool_id=day.choose((None, "pool1", "reported")),
            stages=(ReportedStage(name="s0"), ReportedStage(name="s1", step=1, last_attempt=2)),
            error="It broke",
        )
    if kind == "stage":
        status = day.choose([status for status in StageStatus if status not in ("pending", "cancelled")])
        return StageReport(**of_run, stage_name=day.choose(("s0", "s1", "s2")), status=status, error="It broke")
    if kind == "worker":
        of_worker = day.choose(("idle", "busy", "error", "offline"))
        return WorkerReport(at=at, worker_id=day.choose(("r1", "r2")), status=of_worker, pool_id="reported")
    pools = list(Pool.objects.exclude(reported_by="").order_by("pk").values_list("pk", flat=True))
    counters = {"queue_size": day.choose((0, 7))}
    return PoolMetricsReport(at=at, pool_id=day.choose([*pools, "measured"]), counters=counters)
