"""Rows read under lock, in the one order of `orchestration.models.announced`, and rows stored for the first time.

Everything here needs an open transaction. On SQLite the transaction itself excludes other writers (`IMMEDIATE`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import IntegrityError

from orchestration.models import Pool, Stage, Worker, Workflow
from orchestration.services.refusal import Refusal

if TYPE_CHECKING:
    from datetime import datetime


class NotFound(Refusal):
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


class AlreadyExists(Refusal):
    """The id is taken."""

    def __init__(self, kind: str, id: str) -> None:
        self.kind = kind
        self.id = id
        super().__init__(kind, id)

    def __str__(self) -> str:
        return f"There is a {self.kind} {self.id} already."


def lock_worker(worker_id: str) -> Worker:
    """Raises: WorkerNotFound."""
    worker = Worker.objects.select_for_update(no_key=True).filter(pk=worker_id).first()
    if worker is None:
        raise WorkerNotFound(worker_id)
    return worker.held()


def lock_workflow(workflow_id: str) -> Workflow:
    """Raises: WorkflowNotFound."""
    workflow = Workflow.objects.select_for_update(no_key=True).filter(pk=workflow_id).first()
    if workflow is None:
        raise WorkflowNotFound(workflow_id)
    return workflow.held()


def lock_stage(workflow_id: str, stage_name: str) -> Stage:
    """Lock a stage and, before it, its workflow; its pool comes along unlocked.

    Postgres locks the tables of a row in the order in which `of` names them; a test holds it to that.

    Raises:
        WorkflowNotFound, StageNotFound
    """
    stage = (
        Stage.objects.select_related("workflow", "pool")
        .select_for_update(no_key=True, of=("workflow", "self"))
        .filter(workflow_id=workflow_id, name=stage_name)
        .first()
    )
    if stage is not None:
        return stage.held()
    if not Workflow.objects.filter(pk=workflow_id).exists():
        raise WorkflowNotFound(workflow_id)
    raise StageNotFound(workflow_id, stage_name)


def lock_pool(pool_id: str) -> Pool:
    """Raises: PoolNotFound."""
    pool = Pool.objects.select_for_update(no_key=True).filter(pk=pool_id).first()
    if pool is None:
        raise PoolNotFound(pool_id)
    return pool.held()


def insert(row: Pool | Worker | Workflow, *, at: datetime) -> None:
    """Store a new row.

    Raises:
        AlreadyExists: if the id is taken, be it since a moment ago.
    """
    try:
        row.insert(at=at)
    except IntegrityError as error:
        raise AlreadyExists(row._meta.model_name or "", row.pk) from error
