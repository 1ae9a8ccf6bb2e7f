"""Create, drain, reopen and close pools."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Final

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError, Q

from orchestration.models import Pool, PoolStatus, Worker, WorkerStatus, Workflow
from orchestration.models.pool_counters import ClosedPoolHasWork
from orchestration.services import row_locks, validation
from orchestration.services.errors import ServiceError
from orchestration.services.planned_stages import count_planned
from orchestration.services.transitions import check_transition
from orchestration.suggestions import did_you_mean, similar_names

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
        waiting: How many stages of the engine wait for a retry or the previous step, or come back after a wait.
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


class PoolInUse(ServiceError):
    """Something refers to the pool, so it cannot be removed.

    Attributes:
        pool_id: The pool.
        unfinished: How many unfinished workflows it has.
        workers: How many of its workers are not offline.
        finished: How many finished workflows it has, or has run stages of.
    """

    def __init__(self, pool_id: str, *, unfinished: int, workers: int, finished: int) -> None:
        self.pool_id = pool_id
        self.unfinished = unfinished
        self.workers = workers
        self.finished = finished
        super().__init__(pool_id, unfinished, workers, finished)

    def __str__(self) -> str:
        return (
            f"Pool {self.pool_id} has {self.unfinished} unfinished and {self.finished} finished workflows and "
            f"{self.workers} online workers; it can be removed when it has none. Cancel the unfinished workflows, stop "
            f"the workers, and delete the finished ones with `manage.py prune_runs --keep 0 --pool {self.pool_id}`."
        )


class UnknownPool(ServiceError):
    """No pool has this id, and starts and workers may not create one (`MAHAVISHNU_CREATE_POOLS`)."""

    MAX_LISTED_POOLS: Final = 20

    def __init__(self, pool_id: str, known: tuple[str, ...]) -> None:
        self.pool_id = pool_id
        self.known = known
        super().__init__(pool_id, known)

    def __str__(self) -> str:
        pools = ", ".join(self.known) or "none"
        suggestion = did_you_mean(similar_names(self.pool_id, self.known))
        command = f"`manage.py create_pool {self.pool_id}` creates it."
        return f"Pool {self.pool_id} not found.{suggestion} Pools: {pools}. {command}"


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
    check_accepts_workflows(pool_id, check_pool_exists(pool_id))


def check_accepts_workflows(pool_id: str, status: str) -> None:
    """Check that a pool with this status accepts new workflows.

    Raises:
        PoolNotAccepting
    """
    if status != PoolStatus.ACTIVE:
        raise PoolNotAccepting(pool_id, status, NEW_WORKFLOWS)


def check_accepts_workers(pool_id: str, status: str) -> None:
    """Check that a pool with this status accepts workers: that it is not closed.

    Raises:
        PoolNotAccepting
    """
    if status == PoolStatus.CLOSED:
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


@contextmanager
def reject_removed_pool(*pool_ids: str | None) -> Iterator[None]:
    """Raise `PoolNotFound` if the database rejects rows of a pool that a concurrent transaction has removed.

    Raises:
        PoolNotFound
    """
    try:
        yield
    except (IntegrityError, Pool.DoesNotExist) as error:
        for pool_id in pool_ids:
            if pool_id is not None and not Pool.objects.filter(pk=pool_id).exists():
                raise row_locks.PoolNotFound(pool_id) from error
        raise


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
    """Return the status of a pool. Create an active pool if none has this id and `MAHAVISHNU_CREATE_POOLS` allows it.

    Raises:
        InvalidIdentifier
        UnknownPool: if it does not.
    """
    status = Pool.objects.filter(pk=pool_id).values_list("status", flat=True)
    existing = status.first()
    if existing is not None:
        return existing
    if not settings.MAHAVISHNU_CREATE_POOLS:
        known = Pool.objects.order_by("pk").values_list("pk", flat=True)[: UnknownPool.MAX_LISTED_POOLS]
        raise UnknownPool(validation.identifier("pool_id", pool_id), tuple(known))
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
        PoolNotEmpty: if it has queued or running stages, or a run of the engine has pending stages in it, or stages
            that begin again there after a wait.
    """
    return _change_status(pool_id, PoolStatus.CLOSED, at=at)


def remove_pool(*, pool_id: str, at: datetime | None = None) -> Pool:
    """Delete a pool that nothing needs any longer, in any status, with its offline workers.

    Raises:
        InvalidIdentifier, PoolNotFound
        PoolInUse: if it has workflows or online workers.
    """
    at = validation.timestamp(at)
    with transaction.atomic():
        # Workers are locked before their pool.
        workers = list(Worker.objects.select_for_update().filter(pool_id=pool_id).order_by("pk"))
        pool = row_locks.lock_pool(pool_id)
        online = sum(worker.status != WorkerStatus.OFFLINE for worker in workers)
        runs = Workflow.objects.filter(Q(pool_id=pool_id) | Q(stages__pool_id=pool_id)).distinct()
        unfinished = runs.filter(finished_at=None).count()
        finished = runs.filter(finished_at__isnull=False).count()
        if online or unfinished or finished:
            raise PoolInUse(pool_id, unfinished=unfinished, workers=online, finished=finished)
        for worker in workers:
            worker.removed_at = at
            worker.delete()
        pool.removed_at = at
        try:
            pool.delete()
        except ProtectedError:
            # A run or a worker has just been added.
            raise PoolInUse(pool_id, unfinished=1, workers=0, finished=0) from None
    pool.id = pool_id  # Django cleared the id; the returned pool is the removed one.
    return pool


def _change_status(pool_id: str, status: PoolStatus, *, at: datetime | None) -> Pool:
    at = validation.timestamp(at)
    with transaction.atomic():
        pool = row_locks.lock_pool(pool_id)
        change_locked_pool(pool, status, at=at)
    return pool


def change_locked_pool(pool: Pool, status: PoolStatus, *, at: datetime) -> None:
    """Change the status of a locked pool. To close it, its stored rows and counters must be complete."""
    check_transition("pool", pool.pk, current=pool.status, requested=status)
    if status == PoolStatus.CLOSED:
        _check_empty(pool)
    pool.status = status.value
    pool.save_locked(at=at, update_fields=["status"])


def _check_empty(pool: Pool) -> None:
    # The lock of the pool covers its pending retries: a stage that ends its attempt moves the pool's counters.
    waiting = count_planned(pool.pk)
    if pool.queue_size or pool.tasks_running or waiting:
        raise PoolNotEmpty(pool.pk, pool.queue_size, pool.tasks_running, waiting)
