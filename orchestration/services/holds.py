"""Hold runs that no worker of their pool can take, and end the holds when one may.

A worker that lacks what a stage needs, or has another release, refuses it. The stage stays queued. The broker gets no
message for it for a while: messages that all workers refuse would delay the runs behind them. If no other process of
the pool may be able to run it, the run is held.

A hold ends at the next claim of one of the run's stages, when the run moves to another pool or finishes, and when a
worker may take it: the scheduler compares the runs that are held with the workers of their pools. The model sends the
signals of both.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from orchestration.db.clock import database_now
from orchestration.db.compiled import CompiledSelect
from orchestration.db.postgres_session import lock_if_free
from orchestration.models import FailureReason, HoldReason, Stage, StageStatus, Worker, Workflow, WorkflowStatus
from orchestration.models.workflow import MAX_NEEDS_LENGTH
from orchestration.services import row_locks, validation
from orchestration.services.errors import ServiceError
from orchestration.text import truncate

MAX_UNRUNNABLE: Final = 100
"""How many requirements a worker's row remembers that the worker lacks. The oldest is dropped."""

FIRST_REFUSED_SECONDS: Final = 0.25
"""How long a refused stage is not dispatched at least. Later, that is a quarter of its time in the queue."""

MAX_REFUSED_SECONDS: Final = 10.0
"""How long it is not dispatched at most if another process of the pool may be able to run it."""

FIRST_HELD_SECONDS: Final = 10.0
"""How long it is not dispatched at least if none may. A worker that joins ends this time."""

MAX_HELD_SECONDS: Final = 600.0

MAX_HOLD_KINDS: Final = 10_000
"""How many combinations of a pool, a release and a requirement are compared with the workers. Holds of others last."""

_HOLD_COLUMNS: Final = ("held_reason", "held_requirement", "held_needs", "held_since")


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


class StageNotRunnable(ServiceError):
    """A worker cannot run a stage: it lacks something that the stage needs, or has another release."""

    def __init__(self, worker_id: str, needs: str) -> None:
        self.worker_id = worker_id
        self.needs = needs
        super().__init__(worker_id, needs)

    def __str__(self) -> str:
        return f"Worker {self.worker_id} cannot run the stage: it needs {self.needs}."


class Capabilities:
    """What the live worker processes of pools may be able to run, as far as they have found out.

    Args:
        pool_ids: The pools.
    """

    def __init__(self, pool_ids: Collection[str | None]) -> None:
        self._lacking: dict[tuple[str, str, str], set[str]] = {}
        """The requirements that a process lacks, by its pool, its release and its id."""
        workers = _accepting_workers().filter(pool_id__in=pool_ids)
        for pool_id, release, process, unrunnable in workers.values_list("pool_id", "release", "process", "unrunnable"):
            self._lacking.setdefault((pool_id, release, process), set()).update(unrunnable)

    def may_run(self, pool_id: str | None, release: str, requirement: str) -> bool:
        """Return whether a process of the pool, and of the release if any, has not found that it lacks this."""
        return any(
            requirement not in lacking
            for (pool, of_release, _), lacking in self._lacking.items()
            if pool == pool_id and release in ("", of_release)
        )


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


def record_refusal(worker: Worker, stage: Stage, missing: Requirement, *, at: datetime) -> None:
    """Record that a worker cannot run a queued stage. Hold the run if no other process of the pool may be able to.

    The caller locked the worker, the workflow and the stage.
    """
    workflow = stage.workflow
    has_release = not workflow.release or workflow.release == worker.release
    if has_release and missing.name not in worker.unrunnable:
        worker.unrunnable = [*worker.unrunnable, missing.name][-MAX_UNRUNNABLE:]
        worker.save_locked(at=at, update_fields=["unrunnable"])
    may_run = Capabilities([worker.pool_id]).may_run(worker.pool_id, workflow.release, missing.name)
    first, last = (FIRST_REFUSED_SECONDS, MAX_REFUSED_SECONDS) if may_run else (FIRST_HELD_SECONDS, MAX_HELD_SECONDS)
    queued_seconds = 0.0 if stage.queued_at is None else (at - stage.queued_at).total_seconds()
    refused_until = database_now() + timedelta(seconds=min(max(queued_seconds / 4, first), last))
    Stage.objects.filter(pk=stage.pk).update(refused_until=refused_until, dispatch_due_at=None)
    if not may_run and workflow.held_reason != HoldReason.NO_WORKER_WITH:
        _hold(workflow, HoldReason.NO_WORKER_WITH, missing, at=at)


def hold_unclaimed(pool_id: str, workflow_ids: Collection[str], *, at: datetime | None = None) -> int:
    """Hold runs with queued stages in a pool that has no worker. Return how many runs were not held before.

    A run that another transaction has locked is left out.
    """
    at = validation.timestamp(at)
    held = 0
    free = Workflow.objects.filter(pk__in=workflow_ids, status=WorkflowStatus.RUNNING, held_reason="")
    for workflow_id in list(free.values_list("pk", flat=True)):
        with transaction.atomic():
            workflow = lock_if_free(Workflow.objects.filter(pk=workflow_id)).first()
            if workflow is None:
                continue
            is_queued = workflow.stages.filter(pool_id=pool_id, status=StageStatus.QUEUED).exists()
            if workflow.status != WorkflowStatus.RUNNING or workflow.held_reason or not is_queued:
                continue
            if _accepting_workers().filter(pool_id=pool_id).exists():
                break
            _hold(workflow, HoldReason.NO_WORKER, None, at=at)
            held += 1
    return held


def run_to_hold() -> Q:
    """Return the condition for stages of runs that are not held, although their pool has no worker."""
    has_worker = Exists(_accepting_workers().filter(pool_id=OuterRef("pool_id")))
    return Q(~has_worker, workflow__status=WorkflowStatus.RUNNING, workflow__held_reason="")


def end_hold(workflow: Workflow, *, at: datetime) -> None:
    """End the hold, if any, of a locked workflow."""
    if workflow.held_reason:
        workflow.mark_locked()
        workflow.held_reason = workflow.held_requirement = workflow.held_needs = ""
        workflow.held_since = None
        workflow.save_locked(at=at, update_fields=_HOLD_COLUMNS)


def end_outdated_hold(workflow_id: str, *, at: datetime | None = None) -> bool:
    """End the hold of a run that a worker of its pool may take. Its stages are dispatched soon.

    Returns:
        False if it is not held, or if no worker may take it.
    """
    at = validation.timestamp(at)
    with transaction.atomic():
        workflow = row_locks.lock_workflow(workflow_id)
        if not workflow.held_reason:
            return False
        workers = Capabilities([workflow.pool_id])
        if not workers.may_run(workflow.pool_id, workflow.release, workflow.held_requirement):
            return False
        end_hold(workflow, at=at)
        refused = workflow.stages.filter(status=StageStatus.QUEUED, refused_until__isnull=False)
        refused.update(refused_until=database_now())
    return True


def runs_with_outdated_hold() -> QuerySet[Workflow]:
    """Select the runs that are held although a worker of their pool may take them, oldest first."""
    held = Workflow.objects.exclude(held_reason="")
    outdated = Q(pk__in=())
    if _ANY_HELD.rows():
        kinds = list(held.order_by().values_list("pool_id", "release", "held_requirement").distinct()[:MAX_HOLD_KINDS])
        workers = Capabilities({pool_id for pool_id, _, _ in kinds})
        for pool_id, release, requirement in kinds:
            if workers.may_run(pool_id, release, requirement):
                outdated |= Q(pool_id=pool_id, release=release, held_requirement=requirement)
    return held.filter(outdated).order_by("created_at", "pk").only("pk", "created_at")


# Compiled, because each pass of a scheduler executes it, and mostly finds nothing.
_ANY_HELD: Final = CompiledSelect(lambda: Workflow.objects.exclude(held_reason="").only("pk")[:1])


def _hold(workflow: Workflow, reason: HoldReason, missing: Requirement | None, *, at: datetime) -> None:
    workflow.mark_locked()
    workflow.held_reason = reason.value
    workflow.held_requirement = "" if missing is None else missing.name
    workflow.held_needs = "" if missing is None else str(missing)
    workflow.held_since = at
    workflow.save_locked(at=at, update_fields=_HOLD_COLUMNS)


def _accepting_workers() -> QuerySet[Worker]:
    """Return the workers that may take new stages: slots of the live processes of the engine."""
    return Worker.objects.filter(draining=False).exclude(process="")
