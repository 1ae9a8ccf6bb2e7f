"""Create, drain, reopen and close pools."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from django.db import transaction

from orchestration.models import Pool, PoolStatus, Stage, StageStatus
from orchestration.models.pool_counters import ClosedPoolHasWork
from orchestration.services import row_locks, validation
from orchestration.services.errors import ServiceError
from orchestration.services.transitions import check_transition

NEW_WORKFLOWS: Final = "new workflows"


class PoolNotAccepting(ServiceError):
    """The pool is draining or closed and accepts no new rows of this kind."""

    def __init__(self, pool_id: str, status: str, kind: str) -> None:
        self.pool_id = pool_id
        self.status = str(status)
        self.kind = kind
        super().__init__(pool_id, status, kind)

    def __str__(self) -> str:
        return f"Pool {self.pool_id} is {self.status} and accepts no {self.kind}."


class PoolNotEmpty(ServiceError):
    """The pool has stages that the engine must still run, or that are queued or running, and so cannot be closed.

    Attributes:
        pool_id: The pool.
        queued: How many stages are queued.
        running: How many stages run.
        waiting: How many stages of the engine wait for a retry or for the previous step.
    """

    def __init__(self, pool_id: str, queued: int, running: int, waiting: int) -> None:
        self.pool_id = pool_id
        self.queued = queued
        self.running = running
        self.waiting = waiting
        super().__init__(pool_id, queued, running, waiting)

    def __str__(self) -> str:
        return (
            f"Pool {self.pool_id} has {self.queued} queued, {self.running} running and {self.waiting} waiting stages; "
            "it can be closed when it has none."
        )


# The checks do not lock the pool: a row added while the pool changes counts as added before the change.


def check_pool_exists(pool_id: str) -> str:
    """Check that a pool exists, and return its status.

    Raises:
        InvalidIdentifier, PoolNotFound
    """
    validation.identifier("pool_id", pool_id)
    try:
        return Pool.objects.values_list("status", flat=True).get(pk=pool_id)
    except Pool.DoesNotExist:
        raise row_locks.PoolNotFound(pool_id) from None


def check_pool_accepts_workflows(pool_id: str) -> None:
    """Check that a pool accepts new workflows: that it is active.

    Raises:
        InvalidIdentifier, PoolNotFound, PoolNotAccepting
    """
    if (status := check_pool_exists(pool_id)) != PoolStatus.ACTIVE:
        raise PoolNotAccepting(pool_id, status, NEW_WORKFLOWS)


def check_pool_accepts_workers(pool_id: str) -> None:
    """Check that a pool accepts workers: that it is not closed.

    Raises:
        InvalidIdentifier, PoolNotFound, PoolNotAccepting
    """
    if (status := check_pool_exists(pool_id)) == PoolStatus.CLOSED:
        raise PoolNotAccepting(pool_id, status, "workers")


@contextmanager
def reject_closed_pool(kind: str) -> Iterator[None]:
    """Raise `PoolNotAccepting` if the database rejects work for a pool that is closed.

    A concurrent transaction may have closed it.

    Args:
        kind: The rows that the block adds, in the plural, for the error.

    Raises:
        PoolNotAccepting
    """
    try:
        yield
    except ClosedPoolHasWork as error:
        raise PoolNotAccepting(error.pool_id, PoolStatus.CLOSED, kind) from error


def create_pool(*, pool_id: str, at: datetime | None = None) -> Pool:
    """Create an active pool without workers.

    Raises:
        InvalidIdentifier, AlreadyExists
    """
    at = validation.timestamp(at)
    pool = Pool(id=validation.identifier("pool_id", pool_id), created_at=at, updated_at=at)
    with transaction.atomic():
        row_locks.insert(pool, at=at)
    return pool


def ensure_pool(pool_id: str, *, at: datetime) -> str:
    """Return the status of a pool. Create an active pool if none has this id.

    Raises:
        InvalidIdentifier
    """
    status = Pool.objects.filter(pk=pool_id).values_list("status", flat=True)
    existing = status.first()
    if existing is not None:
        return existing
    try:
        return create_pool(pool_id=pool_id, at=at).status
    except row_locks.AlreadyExists:  # A concurrent transaction has just created it.
        return status.get()


def drain_pool(*, pool_id: str, at: datetime | None = None) -> Pool:
    """Drain a pool: it finishes the workflows that it has and accepts no new ones.

    Raises:
        PoolNotFound, IllegalTransition
    """
    return _change_status(pool_id, PoolStatus.DRAINING, at=at)


def reopen_pool(*, pool_id: str, at: datetime | None = None) -> Pool:
    """Reopen a draining pool: it accepts new workflows again. A closed pool stays closed.

    Raises:
        PoolNotFound, IllegalTransition
    """
    return _change_status(pool_id, PoolStatus.ACTIVE, at=at)


def close_pool(*, pool_id: str, at: datetime | None = None) -> Pool:
    """Close a pool permanently: it accepts no workflows, stages or workers.

    The pending stages of an external orchestrator stay, and can no longer be queued.

    Raises:
        PoolNotFound, IllegalTransition
        PoolNotEmpty: if it has queued or running stages, or a run of the engine has pending stages in it.
    """
    return _change_status(pool_id, PoolStatus.CLOSED, at=at)


def _change_status(pool_id: str, status: PoolStatus, *, at: datetime | None) -> Pool:
    at = validation.timestamp(at)
    with transaction.atomic():
        pool = row_locks.lock_pool(pool_id)
        check_transition("pool", pool_id, current=pool.status, requested=status)
        if status == PoolStatus.CLOSED:
            _check_empty(pool)
        pool.status = status.value
        pool.save_locked(at=at, update_fields=["status"])
    return pool


def _check_empty(pool: Pool) -> None:
    # The lock of the pool covers its pending retries: a stage that ends its attempt moves the pool's counters.
    waiting = Stage.objects.filter(pool=pool, status=StageStatus.PENDING, plan__isnull=False).count()
    if pool.queue_size or pool.tasks_running or waiting:
        raise PoolNotEmpty(pool.pk, pool.queue_size, pool.tasks_running, waiting)
