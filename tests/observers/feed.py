"""Events for an observer, and the reports that it makes of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from orchestration.models import PoolStatus
from orchestration.observers.celery.events import WorkerReply, read_event
from orchestration.observers.celery.identity import Identity
from orchestration.observers.celery.observer import Observer
from orchestration.services.report_types import (
    AttemptFailure,
    PoolReport,
    Report,
    ReportOfStage,
    RunReport,
    StageReport,
    WorkerReport,
)

START = datetime(2026, 11, 28, 4, tzinfo=UTC)
BOX = "celery@box"
OTHER = "celery@other"
SETTLE_SECONDS = 5.0

ReportOfWorkflow = RunReport | ReportOfStage


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Feed:
    """An observer, and a clock that moves by a second with each event."""

    def __init__(self, **options: Any) -> None:
        self.observer = Observer(Identity("shop"), settle_seconds=SETTLE_SECONDS, **options)
        self.seconds = 0.0

    @property
    def now(self) -> datetime:
        return at(self.seconds)

    def send(self, type_: str, hostname: str = BOX, **fields: Any) -> None:
        self.seconds += 1
        event = read_event({"type": type_, "hostname": hostname, "timestamp": self.now.timestamp(), **fields})
        self.observer.apply(event, now=self.now, clock=self.seconds)

    def serve(self, hostname: str = BOX, *queues: str) -> None:
        reply = WorkerReply(hostname, queues=queues or ("orders",))
        self.observer.apply_reply(reply, now=self.now, clock=self.seconds)

    def wait(self, seconds: float) -> None:
        self.seconds += seconds
        self.observer.tick(now=self.now, clock=self.seconds)

    def run(self, uuid: str, hostname: str = BOX, **fields: Any) -> None:
        self.send("task-received", hostname, uuid=uuid, name="shop.add", **fields)
        self.send("task-started", hostname, uuid=uuid)

    def reports(self) -> list[Report]:
        return self.observer.take_reports()

    def of_workflows(self) -> list[ReportOfWorkflow]:
        return [report for report in self.reports() if isinstance(report, ReportOfWorkflow)]

    def names(self) -> list[str]:
        return [name_of(report) for report in self.of_workflows()]


def name_of(report: ReportOfWorkflow) -> str:
    """Return the name of the event that the report causes, without `workflow.`."""
    if isinstance(report, RunReport):
        return "started" if report.status == "running" else report.status
    if isinstance(report, StageReport):
        return {
            "queued": "stages_queued",
            "running": "stage_started",
            "skipped": "stage_status_changed",
        }.get(report.status, f"stage_{report.status}")
    return "stage_retrying" if isinstance(report, AttemptFailure) else "stage_log"


def pool(name: str, at: datetime) -> PoolReport:
    return PoolReport(at=at, pool_id=f"shop-{name}", status=PoolStatus.ACTIVE, is_new=True)


def worker(status: str, pool_name: str, at: datetime, *, is_new: bool = False) -> WorkerReport:
    return WorkerReport(
        at=at, worker_id="shop-celery_box", status=status, pool_id=f"shop-{pool_name}", is_registration=is_new
    )
