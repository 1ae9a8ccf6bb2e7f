"""Rows read under lock, in the one order of `orchestration.models.tracked`, and rows stored for the first time.

Everything here needs an open transaction. On SQLite the transaction itself excludes other writers (`IMMEDIATE`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from django.db import IntegrityError

from orchestration.db.compiled import CompiledSelect
from orchestration.models import Pool, Stage, Worker, Workflow
from orchestration.models.tracked import TrackedModel
from orchestration.services import validation
from orchestration.services.errors import ServiceError

if TYPE_CHECKING:
    from datetime import datetime


class NotFound(ServiceError):
    """Nothing of this kind has this id."""

    kind = "row"

    def __init__(self, id: str) -> None:
        self.id = id
        super().__init__(id)

    def __str__(self) -> str:
        return f"There is no {self.kind} {self.id}."


class WorkflowNotFound(NotFound):
    kind = "workflow"


class PoolNotFound(NotFound):
    kind = "pool"


class WorkerNotFound(NotFound):
    kind = "worker"


class StageNotFound(NotFound):
    """The workflow is there, but has no such stage."""

    kind = "stage"

    def __init__(self, workflow_id: str, stage_name: str) -> None:
        super().__init__(f"{workflow_id}/{stage_name}")
        self.workflow_id = workflow_id
        self.stage_name = stage_name
        self.args = (workflow_id, stage_name)


class AlreadyExists(ServiceError):
    """The id is taken."""

    def __init__(self, kind: str, id: str) -> None:
        self.kind = kind
        self.id = id
        super().__init__(kind, id)

    def __str__(self) -> str:
        return f"There is a {self.kind} {self.id} already."


def lock_worker(worker_id: str) -> Worker:
    """Lock a worker.

    Raises:
        InvalidIdentifier, WorkerNotFound
    """
    return _lock(_WORKER, validation.identifier("worker_id", worker_id), or_else=WorkerNotFound)


def lock_workflow(workflow_id: str) -> Workflow:
    """Lock a workflow.

    Raises:
        InvalidIdentifier, WorkflowNotFound
    """
    return _lock(_WORKFLOW, validation.identifier("workflow_id", workflow_id), or_else=WorkflowNotFound)


def lock_pool(pool_id: str) -> Pool:
    """Lock a pool.

    Raises:
        InvalidIdentifier, PoolNotFound
    """
    return _lock(_POOL, validation.identifier("pool_id", pool_id), or_else=PoolNotFound)


def lock_stage(workflow_id: str, stage_name: str) -> Stage:
    """Lock a stage and, before it, its workflow; its pool comes along unlocked.

    Postgres locks the tables of a row in the order in which `of` names them; a test holds it to that.

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


_WORKER: Final = CompiledSelect(lambda pk: Worker.objects.select_for_update(no_key=True).filter(pk=pk), str)
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

Announced = TypeVar("Announced", bound=TrackedModel)


def _lock(select: CompiledSelect[Announced], id: str, *, or_else: type[NotFound]) -> Announced:
    row = select.row(id)
    if row is None:
        raise or_else(id)
    return row.mark_locked()


def insert(row: Pool | Worker | Workflow, *, at: datetime) -> None:
    """Store a new row.

    Raises:
        AlreadyExists: if the id is taken, be it since a moment ago.
    """
    try:
        row.insert(at=at)
    except IntegrityError as error:
        raise AlreadyExists(row._meta.model_name or "", row.pk) from error
