"""Register and remove workers, record the status that they report, and drain workers of the engine."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from orchestration import signals
from orchestration.models import Worker, WorkerStatus
from orchestration.services import row_locks, validation
from orchestration.services.errors import ServiceError
from orchestration.services.pools import check_accepts_workers, check_pool_exists, reject_removed_pool
from orchestration.services.transitions import check_transition


class EngineWorker(ServiceError):
    """The process of a worker reports its status itself."""

    def __init__(self, worker_id: str) -> None:
        self.worker_id = worker_id
        super().__init__(worker_id)

    def __str__(self) -> str:
        return (
            f"Worker {self.worker_id} is run by the engine, and its process is alive; "
            "drain it with drain_worker, or stop the process."
        )


class NotDrainable(ServiceError):
    """Only an online worker of the engine can be drained."""

    def __init__(self, worker_id: str, status: str) -> None:
        self.worker_id = worker_id
        self.status = str(status)
        super().__init__(worker_id, status)

    def __str__(self) -> str:
        if self.status == WorkerStatus.OFFLINE:
            return f"Worker {self.worker_id} is offline; only an online worker can be drained."
        return (
            f"Worker {self.worker_id} belongs to an external orchestrator; only workers of the engine can be drained."
        )


class WorkerInOtherPool(ServiceError):
    """The worker belongs to another pool than the expected one."""

    def __init__(self, worker_id: str, pool_id: str, expected_pool_id: str) -> None:
        self.worker_id = worker_id
        self.pool_id = pool_id
        self.expected_pool_id = expected_pool_id
        super().__init__(worker_id, pool_id, expected_pool_id)

    def __str__(self) -> str:
        return f"Worker {self.worker_id} belongs to pool {self.pool_id}, not to pool {self.expected_pool_id}."


def register_worker(*, worker_id: str, pool_id: str, at: datetime | None = None) -> Worker:
    """Add an idle worker to a pool. If it is already registered there, it has restarted and becomes idle.

    Raises:
        InvalidIdentifier, PoolNotFound
        PoolNotAccepting: if the pool is closed.
        WorkerInOtherPool: if the worker is registered in another pool.
        EngineWorker: if it is a worker of the engine whose process is alive.
        AlreadyExists: if another process registered it at the same moment.
    """
    at = validation.timestamp(at)
    with reject_removed_pool(pool_id), transaction.atomic():
        try:
            worker = row_locks.lock_worker(worker_id)
        except row_locks.WorkerNotFound:
            worker = Worker(id=worker_id, pool_id=pool_id)
        check_is_external(worker)
        register_locked_worker(worker, pool_id, pool_status=check_pool_exists(pool_id), at=at)
    return worker


def register_locked_worker(worker: Worker, pool_id: str, *, pool_status: str, at: datetime) -> None:
    """Add a new worker to a pool, or register a locked one there again, as `register_worker` does."""
    check_accepts_workers(pool_id, pool_status)
    if worker.pool_id != pool_id:
        raise WorkerInOtherPool(worker.pk, worker.pool_id, pool_id)
    worker.status = WorkerStatus.IDLE.value
    worker.registered_at = worker.last_heartbeat_at = at
    if worker._state.adding and worker._locked_state is None:
        # Insert before the pool is locked: an insert waits for a transaction that holds a row with the same id.
        row_locks.insert(worker, at=at)
    else:
        worker.save_locked(at=at, update_fields=["status", "registered_at", "last_heartbeat_at"])


def check_is_external(worker: Worker) -> None:
    """Check that no process of the engine reports the status of the worker.

    Raises:
        EngineWorker
    """
    if worker.process:
        raise EngineWorker(worker.pk)


def change_worker_status(*, worker_id: str, status: str, at: datetime | None = None) -> Worker:
    """Record a worker's new status: idle, busy, error or offline. All but offline count as a heartbeat.

    Raises:
        InvalidArgument: if the status is not one of these.
        WorkerNotFound, IllegalTransition
        EngineWorker: if its process reports its status itself.
    """
    at = validation.timestamp(at)
    check_worker_status(status)
    with transaction.atomic():
        worker = row_locks.lock_worker(worker_id)
        check_is_external(worker)
        change_locked_worker(worker, status, at=at)
    return worker


def check_worker_status(status: str) -> None:
    """Check that a worker may have this status.

    Raises:
        InvalidArgument
    """
    if status not in WorkerStatus.values:
        raise validation.InvalidArgument("status", status, f"one of {', '.join(WorkerStatus.values)}")


def change_locked_worker(worker: Worker, status: str, *, at: datetime) -> None:
    """Record the new status of a locked worker, as `change_worker_status` does."""
    check_transition("worker", worker.pk, current=worker.status, requested=status)
    worker.status = str(status)
    if status != WorkerStatus.OFFLINE:
        worker.last_heartbeat_at = at
    worker.save_locked(at=at, update_fields=["status", "last_heartbeat_at"])


def remove_worker(*, worker_id: str, at: datetime | None = None) -> Worker:
    """Delete a worker. The stages that it ran keep its id.

    Raises:
        WorkerNotFound
        EngineWorker: if its process is alive.
    """
    at = validation.timestamp(at)
    with transaction.atomic():
        worker = row_locks.lock_worker(worker_id)
        check_is_external(worker)
        worker.removed_at = at
        worker.delete()
    worker.id = worker_id  # Django cleared the id; the returned worker is the removed one.
    return worker


def drain_worker(*, worker_id: str, at: datetime | None = None) -> list[Worker]:
    """Drain the process of a worker: none of its workers starts another stage, and each is offline when its stage ends.

    The process itself continues, and can be stopped at any time. After its restart the workers are active.

    Returns:
        All workers of the process.

    Raises:
        InvalidIdentifier, WorkerNotFound
        NotDrainable: if the worker is offline, or is no worker of the engine.
    """
    at = validation.timestamp(at)
    process, status = _process_of(worker_id)
    if not process:
        raise NotDrainable(worker_id, status)
    drained = []
    for each in Worker.objects.filter(process=process).order_by("pk").values_list("pk", flat=True):
        with transaction.atomic():
            worker = row_locks.lock_slot_worker(each, process)
            if worker is None:
                continue  # It has just left.
            drained.append(worker)
            if not worker.draining:
                worker.draining = True
                worker.save_locked(at=at, update_fields=["draining"])
                signals.worker_draining.send(sender=Worker, worker=worker, at=at)
    return drained


def _process_of(worker_id: str) -> tuple[str, str]:
    validation.identifier("worker_id", worker_id)
    found = Worker.objects.filter(pk=worker_id).values_list("process", "status").first()
    if found is None:
        raise row_locks.WorkerNotFound(worker_id)
    return found
