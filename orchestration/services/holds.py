"""Hold runs that no worker of their pool can take, and end the holds when one may.

A worker that lacks what a stage needs, or has another release, refuses it. The stage stays queued. The broker gets no
message for it for a while: messages that all workers refuse would delay the runs behind them. If no process of the pool
may be able to run it, the stage and its run are held.

A hold ends when a worker starts a stage that is held, when one is skipped, when the run moves to another pool or
finishes, and when a worker may take one: the scheduler compares the stages that are held with the workers of their
pools. Then all of them may be dispatched, and those that no worker can take are held again. The model sends the signals
of both.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from itertools import islice
from typing import Final

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from orchestration.db.clock import database_now
from orchestration.db.compiled import CompiledSelect
from orchestration.db.postgres_session import lock_if_free
from orchestration.models import HoldReason, Stage, StageStatus, Worker, Workflow, WorkflowStatus
from orchestration.models.workflow import MAX_NEEDS_LENGTH
from orchestration.services import row_locks, validation
from orchestration.services.capabilities import Capabilities, Requirement, accepting_workers, add_requirement
from orchestration.text import truncate

FIRST_REFUSED_SECONDS: Final = 0.25
"""How long a refused stage is not dispatched at least. Later, that is a quarter of its time in the queue."""

MAX_REFUSED_SECONDS: Final = 10.0
"""How long it is not dispatched at most if another process of the pool may be able to run it."""

FIRST_HELD_SECONDS: Final = 10.0
"""How long it is not dispatched at least if none may. A worker that joins ends this time."""

MAX_HELD_SECONDS: Final = 600.0

MAX_HELD_KINDS: Final = 10_000
"""How many combinations of a pool, a release and requirements are compared with the workers. Holds of others last."""

MAX_OUTDATED_KINDS: Final = 100
"""The holds of so many of these end in one pass of a scheduler, in a few statements."""

_HOLD_COLUMNS: Final = ("held_reason", "held_needs", "held_since")


def record_refusal(
    worker: Worker, stage: Stage, missing: Requirement, *, at: datetime, at_run_time: bool = False
) -> None:
    """Record that a worker cannot run a queued stage. Hold it if no process of the pool may be able to.

    Args:
        worker: The worker, locked.
        stage: The stage, locked with its workflow.
        missing: What the worker lacks.
        at: The time of the change.
        at_run_time: Whether the stage found that while it ran.
    """
    workflow = stage.workflow
    if not workflow.release or workflow.release == worker.release:
        add_requirement(worker, stage, missing, at_run_time=at_run_time)
    names = stage.requirement_names
    may_run = Capabilities([stage.pool_id], names).may_run(stage.pool_id, workflow.release, names)
    first, last = (FIRST_REFUSED_SECONDS, MAX_REFUSED_SECONDS) if may_run else (FIRST_HELD_SECONDS, MAX_HELD_SECONDS)
    queued_seconds = 0.0 if stage.queued_at is None else (at - stage.queued_at).total_seconds()
    stage.refused_until = database_now() + timedelta(seconds=min(max(queued_seconds / 4, first), last))
    stage.dispatch_due_at = None
    # If a process may run it now, the scheduler ends its hold.
    stage.held = stage.held or not may_run
    columns = ("refused_until", "dispatch_due_at", "requirements", "held")
    Stage.objects.filter(pk=stage.pk).update(**{column: getattr(stage, column) for column in columns})
    if not may_run and workflow.held_reason != HoldReason.NO_WORKER_WITH:
        others = [name for name in names if name != missing.name]
        _hold(workflow, HoldReason.NO_WORKER_WITH, needs="; ".join([str(missing), *others]), at=at)


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
            if accepting_workers().filter(pool_id=pool_id).exists():
                break
            _hold(workflow, HoldReason.NO_WORKER, needs="", at=at)
            held += 1
    return held


def run_to_hold() -> Q:
    """Return the condition for stages of runs that are not held, although their pool has no worker."""
    has_worker = Exists(accepting_workers().filter(pool_id=OuterRef("pool_id")))
    # Not a join: SQLite would begin with all running workflows, most of which may wait.
    runs = Workflow.objects.filter(pk=OuterRef("workflow_id"), status=WorkflowStatus.RUNNING, held_reason="")
    return Q(~has_worker, Exists(runs))


def end_hold(workflow: Workflow, *, at: datetime) -> None:
    """End the hold, if any, of a locked workflow. Its stages that are held may be dispatched now."""
    if not workflow.held_reason:
        return
    held = workflow.stages.filter(held=True)
    held.filter(refused_until__isnull=False).update(refused_until=database_now())
    held.update(held=False)
    workflow.mark_locked()
    workflow.held_reason = workflow.held_needs = ""
    workflow.held_since = None
    workflow.save_locked(at=at, update_fields=_HOLD_COLUMNS)


def end_hold_of(stage: Stage, *, at: datetime) -> None:
    """End the hold of the run, if any, unless it is about other stages than this locked one, which starts."""
    workflow = stage.workflow
    if not workflow.held_reason:
        return
    if workflow.held_reason == HoldReason.NO_WORKER:
        ends = not workflow.own_pools or not _without_worker(workflow).exclude(pool_id=stage.pool_id).exists()
    else:
        ends = stage.held or not workflow.stages.filter(held=True).exists()
    if ends:
        end_hold(workflow, at=at)


def end_outdated_hold(workflow_id: str, *, at: datetime | None = None) -> bool:
    """End the hold of a run that a worker of its pool may take. Its stages may be dispatched now.

    Returns:
        False if it is not held, or if no worker may take it.
    """
    at = validation.timestamp(at)
    with transaction.atomic():
        workflow = row_locks.lock_workflow(workflow_id)
        if not workflow.held_reason:
            return False
        if workflow.held_reason == HoldReason.NO_WORKER:
            ends = _has_worker(workflow)
        else:
            ends = _has_worker_with_needs(workflow)
        if ends:
            end_hold(workflow, at=at)
    return ends


def _has_worker(workflow: Workflow) -> bool:
    """Return whether each pool in which a run has queued stages has a worker that may take them."""
    if workflow.own_pools:
        return not _without_worker(workflow).exists()
    return Capabilities([workflow.pool_id], ()).may_run(workflow.pool_id, workflow.release, ())


def _without_worker(workflow: Workflow) -> QuerySet[Stage]:
    """Select the queued stages of a run in whose pools no worker may take them."""
    workers = accepting_workers().filter(pool_id=OuterRef("pool_id"))
    if workflow.release:
        workers = workers.filter(release=workflow.release)
    return workflow.stages.filter(~Exists(workers), status=StageStatus.QUEUED)


def _has_worker_with_needs(workflow: Workflow) -> bool:
    """Return whether a worker may take one of the stages of a run that are held."""
    held = workflow.stages.filter(held=True).order_by().values_list("pool_id", "requirements").distinct()
    kinds = [(pool_id, requirements.splitlines()) for pool_id, requirements in held[:MAX_HELD_KINDS]]
    workers = Capabilities({pool_id for pool_id, _ in kinds}, {name for _, names in kinds for name in names})
    return any(workers.may_run(pool_id, workflow.release, names) for pool_id, names in kinds)


def runs_with_outdated_hold() -> QuerySet[Workflow]:
    """Select the runs that are held although a worker of their pool may take them, oldest first."""
    if not _ANY_HELD.rows():
        return Workflow.objects.none()
    workers = accepting_workers().filter(pool_id=OuterRef("pool_id"))
    has_worker = Q(Exists(workers), release="") | Q(Exists(workers.filter(release=OuterRef("release"))))
    # Whether all pools of a run have a worker is found when its hold is to end.
    has_worker |= ~Q(own_pools="")
    outdated = Q(has_worker, held_reason=HoldReason.NO_WORKER) | Q(pk__in=_outdated_stages().values("workflow"))
    held = Workflow.objects.exclude(held_reason="").filter(outdated)
    return held.order_by("created_at", "pk").only("pk", "created_at")


# Compiled, because each pass of a scheduler executes it, and mostly finds nothing.
_ANY_HELD: Final = CompiledSelect(lambda: Workflow.objects.exclude(held_reason="").only("pk")[:1])


def _outdated_stages() -> QuerySet[Stage]:
    """Select the stages of `MAX_OUTDATED_KINDS` that are held although a worker may take them."""
    held = Stage.objects.filter(held=True).order_by()
    kinds = list(held.values_list("pool_id", "workflow__release", "requirements").distinct()[:MAX_HELD_KINDS])
    workers = Capabilities({pool_id for pool_id, _, _ in kinds})
    runnable = (kind for kind in kinds if workers.may_run(kind[0], kind[1], kind[2].splitlines()))
    by_release: dict[tuple[str, str], list[str]] = {}
    for pool_id, release, requirements in islice(runnable, MAX_OUTDATED_KINDS):
        by_release.setdefault((pool_id, release), []).append(requirements)
    outdated = Q(pk__in=())
    for (pool_id, release), each in by_release.items():
        outdated |= Q(pool_id=pool_id, workflow__release=release, requirements__in=each)
    return held.filter(outdated)


def _hold(workflow: Workflow, reason: HoldReason, *, needs: str, at: datetime) -> None:
    workflow.mark_locked()
    workflow.held_reason = reason.value
    workflow.held_needs = truncate(needs, MAX_NEEDS_LENGTH)
    workflow.held_since = at
    workflow.save_locked(at=at, update_fields=_HOLD_COLUMNS)
