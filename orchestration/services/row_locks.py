"""Lock rows in the order that `orchestration.models.tracked` defines, and insert new rows.

Every function needs an open transaction. On SQLite the transaction itself excludes other writers (`IMMEDIATE`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from django.db import IntegrityError

from orchestration.db.compiled import CompiledSelect
from orchestration.models import Pool, Stage, StageStatus, Worker, Workflow
from orchestration.models.tracked import TrackedModel
from orchestration.services import validation
from orchestration.services.errors import ServiceError

if TYPE_CHECKING:
    from datetime import datetime

    from django.db.models import QuerySet


class NotFound(ServiceError):
    """No row of this kind has this id."""

    kind = "row"

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(id)

    def __str__(self) -> str:
        return f"{self.kind.capitalize()} {self.id} not found."


class WorkflowNotFound(NotFound):
    """No workflow has this id."""

    kind = "workflow"


class PoolNotFound(NotFound):
    """No pool has this id."""

    kind = "pool"


class WorkerNotFound(NotFound):
    """No worker has this id."""

    kind = "worker"


class StageNotFound(NotFound):
    """The workflow exists, but has no stage of this name."""

    kind = "stage"

    def __init__(self, workflow_id: str, stage_name: str) -> None:
        super().__init__(f"{workflow_id}/{stage_name}")
        self.workflow_id = workflow_id
        self.stage_name = stage_name
        self.args = (workflow_id, stage_name)


class AlreadyExists(ServiceError):
    """A row of this kind already has this id."""

    def __init__(self, kind: str, id: str) -> None:
        self.kind = kind
        self.id = id
        super().__init__(kind, id)

    def __str__(self) -> str:
        return f"{self.kind.capitalize()} {self.id} already exists."


class AttemptEnded(ServiceError):
    """The attempt is no longer the running one of its stage."""

    def __init__(self, stage_id: int, attempt: int) -> None:
        self.stage_id = stage_id
        self.attempt = attempt
        super().__init__(stage_id, attempt)

    def __str__(self) -> str:
        return f"Attempt {self.attempt} is no longer the running one of its stage."


def lock_worker(worker_id: str) -> Worker:
    """Lock a worker.

    Raises:
        InvalidIdentifier, WorkerNotFound
    """
    return _lock(_WORKER, validation.identifier("worker_id", worker_id), not_found=WorkerNotFound)


def lock_slot_worker(worker_id: str, process: str) -> Worker | None:
    """Lock a worker of the engine. Return None if it is not registered to this process."""
    worker = _SLOT_WORKER.row(worker_id, process)
    return None if worker is None else worker.mark_locked()


def lock_workers_of_run(workflow_id: str) -> None:
    """Lock the workers that run a stage of a workflow, in the order of their ids."""
    workers = Worker.objects.select_for_update(no_key=True).filter(stage__workflow_id=workflow_id)
    list(workers.order_by("pk").values_list("pk", flat=True))


def lock_workflow(workflow_id: str) -> Workflow:
    """Lock a workflow.

    Raises:
        InvalidIdentifier, WorkflowNotFound
    """
    return _lock(_WORKFLOW, validation.identifier("workflow_id", workflow_id), not_found=WorkflowNotFound)


def lock_pool(pool_id: str) -> Pool:
    """Lock a pool.

    Raises:
        InvalidIdentifier, PoolNotFound
    """
    return _lock(_POOL, validation.identifier("pool_id", pool_id), not_found=PoolNotFound)


def lock_stage(workflow_id: str, stage_name: str) -> Stage:
    """Lock a workflow and then its stage of this name. The pool of the stage is loaded, but not locked.

    Postgres locks the tables of a row in the order of `of`; a test checks that.

    Raises:
        InvalidIdentifier, InvalidArgument, WorkflowNotFound, StageNotFound
    """
    validation.identifier("workflow_id", workflow_id)
    validation.text("stage_name", stage_name)
    stage = _STAGE.row(workflow_id, stage_name)
    if stage is not None:
        return stage.mark_locked()
    if not Workflow.objects.filter(pk=workflow_id).exists():
        raise WorkflowNotFound(workflow_id)
    raise StageNotFound(workflow_id, stage_name)


def lock_stage_by_id(stage_id: int) -> Stage | None:
    """Lock the workflow of a stage and then the stage; None if it does not exist."""
    stage = _STAGE_BY_ID.row(stage_id)
    return None if stage is None else stage.mark_locked()


def lock_running(stage_id: int, attempt: int) -> Stage | None:
    """Lock the workflow of a stage and then the stage, as `lock_stage_by_id`; None if the attempt does not run."""
    stage = lock_stage_by_id(stage_id)
    is_running = stage is not None and stage.status == StageStatus.RUNNING and stage.attempt == attempt
    return stage if is_running else None


def running_attempt(stage_id: int, attempt: int) -> QuerySet[Stage]:
    """Select the stage if the attempt is its running one."""
    return Stage.objects.filter(pk=stage_id, attempt=attempt, status=StageStatus.RUNNING)


_WORKER: Final = CompiledSelect(lambda pk: Worker.objects.select_for_update(no_key=True).filter(pk=pk), str)
_SLOT_WORKER: Final = CompiledSelect(
    lambda pk, process: Worker.objects.select_for_update(no_key=True).filter(pk=pk, process=process), str, str
)
_WORKFLOW: Final = CompiledSelect(lambda pk: Workflow.objects.select_for_update(no_key=True).filter(pk=pk), str)
_POOL: Final = CompiledSelect(lambda pk: Pool.objects.select_for_update(no_key=True).filter(pk=pk), str)
_STAGE: Final = CompiledSelect(
    lambda workflow_id, name: (
        Stage.objects.select_related("workflow", "pool")
        .select_for_update(no_key=True, of=("workflow", "self"))
        .filter(workflow_id=workflow_id, name=name)
    ),
    str,
    str,
)
_STAGE_BY_ID: Final = CompiledSelect(
    lambda pk: (
        Stage.objects.select_related("workflow").select_for_update(no_key=True, of=("workflow", "self")).filter(pk=pk)
    ),
    int,
)

Tracked = TypeVar("Tracked", bound=TrackedModel)


def _lock(select: CompiledSelect[Tracked], id: str, *, not_found: type[NotFound]) -> Tracked:
    row = select.row(id)
    if row is None:
        raise not_found(id)
    return row.mark_locked()


def insert(row: Pool | Worker | Workflow, *, at: datetime) -> None:
    """Store a new row.

    Raises:
        AlreadyExists: if the id exists, even if a concurrent transaction has just inserted it.
    """
    try:
        row.insert(at=at)
    except IntegrityError as error:
        raise AlreadyExists(row._meta.model_name or "", row.pk) from error
