"""Register, keep alive and expire workers of the engine. A worker is one slot of a worker process."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Q

from orchestration.db.clock import database_now
from orchestration.db.postgres_session import lock_if_free
from orchestration.limits import engine_limits
from orchestration.models import FailureReason, PoolStatus, Stage, StageStatus, Worker, WorkerStatus
from orchestration.models.pool_counters import batched_counters
from orchestration.services import row_locks, validation
from orchestration.services.attempt_failures import end_running_attempt, record_failure
from orchestration.services.errors import ServiceError
from orchestration.services.pools import PoolNotAccepting, ensure_pool
from orchestration.services.row_locks import lock_slot_worker, lock_stage_by_id

MAX_WORKER_NUMBER = 10_000
"""The largest number in the id of a worker."""

LOST = "The worker was lost"

_JOINED_COLUMNS: Final = (
    *("pool", "status", "process", "release", "draining", "stage"),
    *("registered_at", "last_heartbeat_at", "heartbeat_at"),
)


class NoFreeWorkerId(ServiceError):
    """All ids of the workers with a name are in use."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(name)

    def __str__(self) -> str:
        return (
            f"The worker ids {self.name}-1 to {self.name}-{MAX_WORKER_NUMBER} are in use; "
            "one is free when its worker is offline."
        )


def join_pool(*, name: str, process: str, pool_id: str, release: str = "", at: datetime | None = None) -> str:
    """Register an idle worker for a slot of a process, and return its id: `<name>-1`, or the next free number.

    A number is free if no worker has it or if its worker is offline, so a restarted worker gets its previous id back.
    The pool is created if it does not exist.

    Raises:
        InvalidIdentifier
        PoolNotAccepting: if the pool is closed.
        NoFreeWorkerId: if all numbers are in use.
    """
    at = validation.timestamp(at)
    validation.identifier("worker_id", f"{name}-{MAX_WORKER_NUMBER}")
    ensure_pool(pool_id, at=at)
    in_use = _ids_in_use(name)
    for number in range(1, MAX_WORKER_NUMBER + 1):
        worker_id = f"{name}-{number}"
        if worker_id not in in_use and _join_as(worker_id, process, pool_id, release, at=at):
            return worker_id
    raise NoFreeWorkerId(name)


def record_heartbeats(
    *, process: str, worker_ids: Collection[str], running: Sequence[tuple[int, int]]
) -> dict[str, bool]:
    """Record a heartbeat of workers, and renew the leases of the attempts that they run.

    Args:
        process: The worker process.
        worker_ids: Its workers.
        running: The running attempts, each as (stage id, attempt number).

    Returns:
        The workers that are still registered to this process, each with whether it drains. The others were marked
        offline and must join again. A worker that was marked offline while it drained must not: it counts as draining.
    """
    limits = engine_limits()
    with transaction.atomic():
        now = database_now()
        registered = Worker.objects.filter(process=process, pk__in=worker_ids).exclude(status=WorkerStatus.OFFLINE)
        # A row that is locked gets its next heartbeat: the heartbeats of the others must not wait for it.
        free = lock_if_free(registered).values("pk")
        Worker.objects.filter(pk__in=free).update(heartbeat_at=now, last_heartbeat_at=now)
        attempts = Q()
        for stage_id, attempt in running:
            attempts |= Q(pk=stage_id, attempt=attempt)
        if attempts:
            running_stages = Stage.objects.filter(attempts, status=StageStatus.RUNNING, worker__process=process)
            free_stages = lock_if_free(running_stages).values("pk")
            Stage.objects.filter(pk__in=free_stages).update(
                lease_expires_at=now + timedelta(seconds=limits.lease_seconds)
            )
        drains = dict(registered.values_list("pk", "draining"))
        if len(drains) < len(worker_ids):
            expired = Worker.objects.filter(pk__in=worker_ids, status=WorkerStatus.OFFLINE, draining=True)
            drains.update((pk, True) for pk in expired.values_list("pk", flat=True))
        return drains


def crash_worker(
    *,
    worker_id: str,
    process: str,
    error: str,
    ran: tuple[int, int] | None,
    reason: str | None,
    at: datetime | None = None,
) -> bool:
    """Record that the child process of a slot has died. The worker is in error until its next claim; its attempt ends.

    Args:
        worker_id: The worker of the slot.
        process: The worker process that it is registered to.
        error: The error of the attempt.
        ran: The stage id and the number of the attempt that it ran, if any.
        reason: Why it died: lost, timed out or released. None if the attempt was cancelled. The worker becomes idle
            if it was cancelled or released.
        at: The time of the change; None means now.

    Returns:
        Whether anything changed: False if the worker is registered to another process, is already in error, or has
        claimed another attempt since.
    """
    at = validation.timestamp(at)
    with transaction.atomic(), batched_counters(at=at):
        worker = lock_slot_worker(worker_id, process)
        if worker is None or worker.status not in (WorkerStatus.BUSY, WorkerStatus.IDLE):
            return False
        if worker.stage_id is not None and not _still_runs(worker, ran):
            return False
        end_running_attempt(worker, reason=reason or FailureReason.LOST, error=error, at=at)
        as_planned = reason in (None, FailureReason.RELEASED)
        worker.status = WorkerStatus.IDLE.value if as_planned else WorkerStatus.ERROR.value
        worker.save_locked(at=at, update_fields=["status", "stage"])
    return True


def leave_pool(
    *,
    worker_id: str,
    process: str,
    error: str,
    reason: FailureReason = FailureReason.LOST,
    at: datetime | None = None,
) -> bool:
    """Mark a worker offline at once. Its attempt, if any, ends for this reason: lost or released.

    Returns:
        False if it is registered to another process.
    """
    at = validation.timestamp(at)
    with transaction.atomic(), batched_counters(at=at):
        worker = lock_slot_worker(worker_id, process)
        if worker is None:
            return False
        _take_offline(worker, reason=reason, error=error, at=at)
    return True


def expire_worker(worker_id: str, *, no_heartbeat_since: datetime, at: datetime | None = None) -> bool:
    """Mark a worker offline if it has had no heartbeat since this database time, else return False."""
    at = validation.timestamp(at)
    with transaction.atomic(), batched_counters(at=at):
        worker = Worker.objects.select_for_update(no_key=True).filter(pk=worker_id).first()
        if worker is None or worker.heartbeat_at is None or worker.heartbeat_at > no_heartbeat_since:
            return False
        _take_offline(worker.mark_locked(), reason=FailureReason.LOST, error=LOST, at=at, draining=worker.draining)
    return True


def expire_lease(stage_id: int, *, expired_before: datetime, at: datetime | None = None) -> bool:
    """End an attempt whose lease expired before this database time. Return False if the lease was renewed.

    Its worker, unless it is offline, is in error until its next claim.
    """
    at = validation.timestamp(at)
    with transaction.atomic(), batched_counters(at=at):
        worker_id = Stage.objects.filter(pk=stage_id).values_list("worker_id", flat=True).first()
        worker = Worker.objects.select_for_update(no_key=True).filter(pk=worker_id).first()
        stage = lock_stage_by_id(stage_id)
        if stage is None or stage.worker_id != worker_id or not _has_expired(stage, expired_before):
            return False
        record_failure(stage, reason=FailureReason.LOST, error=LOST, at=at)
        if worker is not None and worker.stage_id == stage_id and worker.status == WorkerStatus.BUSY:
            worker.mark_locked()
            worker.stage = None
            worker.status = WorkerStatus.ERROR.value
            worker.save_locked(at=at, update_fields=["status", "stage"])
    return True


def _take_offline(worker: Worker, *, reason: FailureReason, error: str, at: datetime, draining: bool = False) -> None:
    """End the attempt of a worker, and its registration.

    Args:
        worker: The worker, locked.
        reason: Why the attempt ends.
        error: The error of the attempt.
        at: The time of the change.
        draining: Whether its process drains and may be alive: it must drain on when it returns.
    """
    end_running_attempt(worker, reason=reason, error=error, at=at)
    worker.process = ""
    worker.draining = draining
    worker.heartbeat_at = None
    worker.status = WorkerStatus.OFFLINE.value
    worker.save_locked(at=at, update_fields=["status", "stage", "process", "draining", "heartbeat_at"])


def _join_as(worker_id: str, process: str, pool_id: str, release: str, *, at: datetime) -> bool:
    with transaction.atomic():
        worker = Worker.objects.select_for_update(no_key=True).filter(pk=worker_id).first()
        is_new = worker is None
        if worker is None:
            worker = Worker(id=worker_id)
        elif worker.status != WorkerStatus.OFFLINE:
            return False
        else:
            worker.mark_locked()
            worker.unmet_requirements.all().delete()
        pool = row_locks.lock_pool(pool_id)
        if pool.status == PoolStatus.CLOSED:
            raise PoolNotAccepting(pool_id, pool.status, "workers")
        worker.pool = pool
        worker.status = WorkerStatus.IDLE.value
        worker.process = process
        worker.release = release
        worker.draining = False
        worker.stage = None
        worker.registered_at = worker.last_heartbeat_at = at
        worker.heartbeat_at = database_now()
        if not is_new:
            worker.save_locked(at=at, update_fields=_JOINED_COLUMNS)
            return True
        try:
            row_locks.insert(worker, at=at)
        except row_locks.AlreadyExists:
            transaction.set_rollback(True)
            return False
    return True


def _ids_in_use(name: str) -> set[str]:
    # A worker that was reported from outside keeps its id, also while it is offline.
    workers = Worker.objects.filter(pk__startswith=f"{name}-").exclude(status=WorkerStatus.OFFLINE, reported_by="")
    return set(workers.values_list("pk", flat=True))


def _has_expired(stage: Stage, before: datetime) -> bool:
    return (
        stage.status == StageStatus.RUNNING and stage.lease_expires_at is not None and stage.lease_expires_at <= before
    )


def _still_runs(worker: Worker, ran: tuple[int, int] | None) -> bool:
    return ran is not None and Stage.objects.filter(pk=ran[0], attempt=ran[1]).exists() and worker.stage_id == ran[0]
