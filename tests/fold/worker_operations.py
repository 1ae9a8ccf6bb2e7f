"""What happens to workers, of the engine and of an external orchestrator."""

from __future__ import annotations

from orchestration import services
from orchestration.models import FailureReason, Worker, WorkerStatus
from orchestration.reporter import reporting_as
from tests.fold.day import Day, operation

POOLS = ("pool1", "pool2", "pool3")


@operation(8)
def join_pool(day: Day) -> None:
    name = day.choose(("box", "vm"))
    services.join_pool(
        name=name,
        process=day.choose((f"{name}-a", f"{name}-b")),
        pool_id=day.choose(POOLS),
        release=day.choose(("", "2")),
    )


def engine_worker(day: Day) -> Worker:
    return day.pick(Worker.objects.exclude(process=""))


@operation()
def leave_pool(day: Day) -> None:
    worker = engine_worker(day)
    reason = day.choose((FailureReason.LOST, FailureReason.RELEASED))
    services.leave_pool(worker_id=worker.pk, process=worker.process, error="Left", reason=reason)


@operation()
def crash_worker(day: Day) -> None:
    worker = engine_worker(day)
    stage = worker.stage
    ran = None if stage is None else (stage.pk, stage.attempt)
    reason = day.choose((None, FailureReason.LOST, FailureReason.TIMED_OUT, FailureReason.RELEASED))
    services.crash_worker(worker_id=worker.pk, process=worker.process, error="Died", ran=ran, reason=reason)


@operation()
def drain_worker(day: Day) -> None:
    services.drain_worker(worker_id=engine_worker(day).pk)


@operation(3)
def record_heartbeats(day: Day) -> None:
    worker = engine_worker(day)
    stage = worker.stage
    running = [] if stage is None else [(stage.pk, stage.attempt)]
    services.record_heartbeats(process=worker.process, worker_ids=[worker.pk], running=running)


@operation(3)
def register_worker(day: Day) -> None:
    with reporting_as(day.choose(("", "airflow"))):
        services.register_worker(worker_id=day.choose(("w1", "w2")), pool_id=day.choose(POOLS))


@operation(2)
def change_worker_status(day: Day) -> None:
    worker = day.pick(Worker.objects.filter(process=""))
    services.change_worker_status(worker_id=worker.pk, status=day.choose(WorkerStatus.values))


@operation()
def remove_worker(day: Day) -> None:
    services.remove_worker(worker_id=day.pick(Worker.objects.filter(process="")).pk)
