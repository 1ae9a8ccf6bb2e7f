"""Hold runs that no worker can take now, and drain workers.

A held run waits in the queue like any other, and says why. The hold ends at the next claim of one of its stages, when a
worker joins that may take it, and when the run moves to another pool or finishes. The model sends the signals of both.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from django.db import transaction
from django.db.models import Q, QuerySet

from orchestration import signals
from orchestration.models import (
    FailureReason,
    HoldReason,
    Stage,
    StageStatus,
    Worker,
    WorkerStatus,
    Workflow,
    WorkflowStatus,
)
from orchestration.models.workflow import MAX_NEEDS_LENGTH
from orchestration.services import row_locks, validation
from orchestration.services.errors import ServiceError
from orchestration.text import truncate

MAX_UNRUNNABLE: Final = 100
"""How many requirements a worker's row remembers that the worker lacks. The oldest is dropped."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a stage needs and a worker lacks.

    Attributes:
        name: The same for every worker that lacks it, such as `shop.workflows:load` or `release 2`.
        reason: Why this worker lacks it, such as the error of a module; may be empty.
    """

    name: str
    reason: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", truncate(self.name, MAX_NEEDS_LENGTH))

    def __str__(self) -> str:
        return truncate(f"{self.name} ({self.reason})" if self.reason else self.name, MAX_NEEDS_LENGTH)


_HOLD_COLUMNS: Final = ("held_reason", "held_needs", "held_since")

_HOLDS_ENDED_AT_ONCE: Final = 100
"""Runs whose holds end in one transaction."""


class StageNotRunnable(ServiceError):
    """A worker cannot run a stage: it lacks something that the stage needs, or has another release."""

    def __init__(self, worker_id: str, needs: str) -> None:
        self.worker_id = worker_id
        self.needs = needs
        super().__init__(worker_id, needs)

    def __str__(self) -> str:
        return f"Worker {self.worker_id} cannot run the stage: it needs {self.needs}."


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


def find_missing_before(worker: Worker, stage: Stage) -> Requirement | None:
    """Return what the process of a worker lacked at an earlier attempt at a stage; None if nothing."""
    if not stage.attempt:
        return None
    before = stage.failed_attempts.filter(
        reason=FailureReason.NOT_RUNNABLE,
        worker_name__in=Worker.objects.filter(process=worker.process).values("pk"),
        ended_at__gte=worker.registered_at,
    )
    name = before.values_list("error", flat=True).order_by("-attempt").first()
    return None if name is None else Requirement(name)


def record_unrunnable(worker: Worker, stage: Stage, missing: Requirement, *, at: datetime) -> None:
    """Record that a worker cannot run a queued stage. Hold the run if no other worker of the pool may be able to.

    The caller locked the worker, the workflow and the stage.
    """
    if missing.name not in worker.unrunnable:
        worker.unrunnable = [*worker.unrunnable, missing.name][-MAX_UNRUNNABLE:]
        worker.save_locked(at=at, update_fields=["unrunnable"])
    workflow = stage.workflow
    if workflow.held_reason or _may_run_elsewhere(worker, workflow, missing.name):
        return
    _hold(workflow, HoldReason.NO_WORKER_WITH, needs=str(missing), at=at)


def hold_unclaimed(pool_id: str, workflow_ids: Collection[str], *, at: datetime | None = None) -> int:
    """Hold runs with queued stages in a pool that has no worker. Return how many runs were not held before."""
    at = validation.timestamp(at)
    if _workers_of(pool_id).exists():
        return 0
    held = 0
    free = Workflow.objects.filter(pk__in=workflow_ids, status=WorkflowStatus.RUNNING, held_reason="")
    for workflow_id in list(free.values_list("pk", flat=True)):
        with transaction.atomic():
            workflow = row_locks.lock_workflow(workflow_id)
            is_queued = workflow.stages.filter(pool_id=pool_id, status=StageStatus.QUEUED).exists()
            if workflow.status != WorkflowStatus.RUNNING or workflow.held_reason or not is_queued:
                continue
            if _workers_of(pool_id).exists():
                break  # One has just joined, and may not find a hold that begins now.
            _hold(workflow, HoldReason.NO_WORKER, needs="", at=at)
            held += 1
    return held


def end_hold(workflow: Workflow, *, at: datetime) -> None:
    """End the hold, if any, of a locked workflow."""
    if workflow.held_reason:
        workflow.mark_locked()
        workflow.held_reason = workflow.held_needs = ""
        workflow.held_since = None
        workflow.save_locked(at=at, update_fields=_HOLD_COLUMNS)


def end_holds_of_pool(pool_id: str, *, release: str, at: datetime) -> None:
    """End the holds of a pool that a worker of this release has joined, except those that need another release.

    If the worker cannot run the others either, they are held again.
    """
    held = Workflow.objects.filter(pool_id=pool_id).exclude(held_reason="")
    may_run = Q(held_reason=HoldReason.NO_WORKER) | Q(release="") | Q(release=release)
    workflow_ids = list(held.filter(may_run).order_by("pk").values_list("pk", flat=True))
    for start in range(0, len(workflow_ids), _HOLDS_ENDED_AT_ONCE):
        ids = workflow_ids[start : start + _HOLDS_ENDED_AT_ONCE]
        with transaction.atomic():
            # Their plans, parameters and results may be large.
            rows = held.filter(pk__in=ids).only("status", "pool_id", "release", *_HOLD_COLUMNS)
            for workflow in rows.select_for_update(no_key=True).order_by("pk"):
                end_hold(workflow, at=at)


def _hold(workflow: Workflow, reason: HoldReason, *, needs: str, at: datetime) -> None:
    workflow.mark_locked()
    workflow.held_reason = reason.value
    workflow.held_needs = needs
    workflow.held_since = at
    workflow.save_locked(at=at, update_fields=_HOLD_COLUMNS)


def _may_run_elsewhere(worker: Worker, workflow: Workflow, needs: str) -> bool:
    """Return whether another process of the pool has a worker that has not found itself unable to run this."""
    others = _workers_of(worker.pool_id).exclude(process=worker.process)
    if workflow.release:
        others = others.filter(release=workflow.release)
    return any(needs not in unrunnable for unrunnable in others.values_list("unrunnable", flat=True))


def _workers_of(pool_id: str) -> QuerySet[Worker]:
    """Return the workers that may take new stages of a pool: slots of a live process of the engine."""
    return Worker.objects.filter(pool_id=pool_id, draining=False).exclude(process="")
