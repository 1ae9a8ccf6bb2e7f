"""Create, drain, reopen and close pools."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime

from django.db import IntegrityError, transaction

from orchestration.models import Pool, PoolStatus
from orchestration.models.pool import CLOSED_POOL_HAS_NO_WORK
from orchestration.services import locking, validation
from orchestration.services.errors import ServiceError
from orchestration.services.transitions import check_transition


class PoolNotAccepting(ServiceError):
    """The pool is draining or closed, and takes on nothing new of this kind."""

    def __init__(self, pool_id: str, status: str, refused: str) -> None:
        self.pool_id = pool_id
        self.status = str(status)
        self.refused = refused
        super().__init__(pool_id, status, refused)

    def __str__(self) -> str:
        return f"The pool {self.pool_id} is {self.status} and accepts no {self.refused}."


class PoolNotEmpty(ServiceError):
    """The pool has stages queued or running, and so cannot be closed."""

    def __init__(self, pool_id: str, queued: int, running: int) -> None:
        self.pool_id = pool_id
        self.queued = queued
        self.running = running
        super().__init__(pool_id, queued, running)

    def __str__(self) -> str:
        return (
            f"The pool {self.pool_id} has {self.queued} stages queued and {self.running} running; "
            "it can be closed when it has none."
        )


def check_pool_accepts(refused: str, *, pool_id: str, statuses: Collection[str]) -> None:
    """Let a pool pass that has one of these statuses; `refused` says in the plural what it would otherwise not accept.

    The pool is not locked: whatever slips in while a pool changes came before the change.

    Raises:
        InvalidIdentifier, PoolNotFound, PoolNotAccepting
    """
    validation.identifier("pool_id", pool_id)
    try:
        status = Pool.objects.values_list("status", flat=True).get(pk=pool_id)
    except Pool.DoesNotExist:
        raise locking.PoolNotFound(pool_id) from None
    if status not in statuses:
        raise PoolNotAccepting(pool_id, status, refused)


@contextmanager
def closed_pool_refuses(refused: str, *, pool_id: str) -> Iterator[None]:
    """Say in words what the database says where work comes to a pool that closes at this very moment.

    Raises:
        PoolNotAccepting
    """
    try:
        yield
    except IntegrityError as error:
        if CLOSED_POOL_HAS_NO_WORK not in str(error):
            raise
        raise PoolNotAccepting(pool_id, PoolStatus.CLOSED, refused) from error


def create_pool(*, pool_id: str, at: datetime | None = None) -> Pool:
    """Make an active pool without workers.

    Raises:
        InvalidIdentifier, AlreadyExists
    """
    at = validation.moment(at)
    pool = Pool(id=validation.identifier("pool_id", pool_id), created_at=at, updated_at=at)
    with transaction.atomic():
        locking.insert(pool, at=at)
    return pool


def drain_pool(*, pool_id: str, at: datetime | None = None) -> Pool:
    """Let the pool finish the workflows it has; it accepts no new ones.

    Raises:
        PoolNotFound, IllegalTransition
    """
    return _change_status(pool_id, PoolStatus.DRAINING, at=at)


def reopen_pool(*, pool_id: str, at: datetime | None = None) -> Pool:
    """Let a pool that is draining accept new workflows again; one that is closed stays so.

    Raises:
        PoolNotFound, IllegalTransition
    """
    return _change_status(pool_id, PoolStatus.ACTIVE, at=at)


def close_pool(*, pool_id: str, at: datetime | None = None) -> Pool:
    """End the pool: no workflow, stage or worker is accepted any more.

    Raises:
        PoolNotFound, IllegalTransition
        PoolNotEmpty: if stages are queued or running in it.
    """
    return _change_status(pool_id, PoolStatus.CLOSED, at=at)


def _change_status(pool_id: str, status: PoolStatus, *, at: datetime | None) -> Pool:
    at = validation.moment(at)
    with transaction.atomic():
        pool = locking.lock_pool(pool_id)
        check_transition("pool", pool_id, current=pool.status, requested=status)
        if status == PoolStatus.CLOSED and (pool.queue_size or pool.tasks_running):
            raise PoolNotEmpty(pool_id, pool.queue_size, pool.tasks_running)
        pool.status = status.value
        pool.save_locked(at=at, update_fields=["status"])
    return pool
