"""Store the reports of an observer, through the services."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, Final

from django.db import transaction

from orchestration import services
from orchestration.db.retry import retry_while_unavailable
from orchestration.log_throttle import LogThrottle
from orchestration.models import Worker, Workflow
from orchestration.observers.celery.reports import REPORTED_BY, Report
from orchestration.reporter import reporting_as

logger = logging.getLogger(__name__)

MAX_REPORTS_PER_TRANSACTION: Final = 200
"""Other writers wait for a transaction."""

_rejected = LogThrottle(logger)

Store = Callable[[Mapping[str, Any], datetime], object]


class ServiceSink:
    """Stores reports in transactions of a bounded size, and waits while the database is unavailable.

    Args:
        is_stopping: Whether to give no further attempt to an unavailable database.
    """

    def __init__(self, *, is_stopping: Callable[[], bool] = lambda: False) -> None:
        self._is_stopping = is_stopping

    def __call__(self, reports: Sequence[Report], /) -> int:
        """Store reports in order, and return how many were rejected. A repeated report changes nothing."""
        rejected = 0
        for start in range(0, len(reports), MAX_REPORTS_PER_TRANSACTION):
            batch = reports[start : start + MAX_REPORTS_PER_TRANSACTION]
            rejected += retry_while_unavailable(
                lambda batch=batch: self._store(batch),  # type: ignore[misc]  # Bound at once.
                timeout_seconds=None,
                is_expired=self._is_stopping,
            )
        return rejected

    def _store(self, batch: Sequence[Report]) -> int:
        rejected = 0
        with reporting_as(REPORTED_BY), transaction.atomic():
            for report in batch:
                try:
                    _check_owner(report)
                    _STORES[report.event](report.data, report.at)
                except services.ServiceError as error:
                    rejected += 1
                    _rejected.log("Report %s of an observed application rejected: %s", report.event, error)
        return rejected


class NotObserved(services.ServiceError):
    """The row is this installation's own, or that of another reporter."""

    def __init__(self, kind: str, id: str) -> None:
        self.kind = kind
        self.id = id
        super().__init__(kind, id)

    def __str__(self) -> str:
        return f"{self.kind} {self.id} is not one that an observer of Celery has reported."


def _check_owner(report: Report) -> None:
    """Reject a report about a run or worker of others: who can send events to the broker can choose its id.

    Raises:
        NotObserved
    """
    for model, field in ((Workflow, "workflow_id"), (Worker, "worker_id")):
        id = report.data.get(field) if report.event.startswith(field.removesuffix("_id")) else None
        if id is not None and model.objects.filter(pk=id).exclude(reported_by=REPORTED_BY).exists():
            raise NotObserved(model.__name__, id)


def _start_workflow(data: Mapping[str, Any], at: datetime) -> None:
    workflow_id, stage_name, pool_id = data["workflow_id"], data["stage_name"], data["pool_id"]
    columns = {field: data[field] for field in ("name", "adapter", "prompt")}
    create = partial(services.create_workflow, workflow_id=workflow_id, stages=[stage_name], at=at, **columns)
    try:
        create(pool_id=pool_id)
    except (services.PoolNotAccepting, services.PoolNotFound):
        # What runs elsewhere does not stop because an operator has drained the pool here.
        create(pool_id=None)
    except services.AlreadyExists:
        # The observer had forgotten the tree.
        services.add_stage(workflow_id=workflow_id, stage_name=stage_name, pool_id=pool_id, at=at)
        return
    services.start_workflow(workflow_id=workflow_id, at=at)


def _add_stage(data: Mapping[str, Any], at: datetime) -> None:
    services.add_stage(**data, at=at)


def _queue_stages(data: Mapping[str, Any], at: datetime) -> None:
    for stage_name in data["stages"]:
        services.queue_stage(workflow_id=data["workflow_id"], stage_name=stage_name, at=at)


def _start_stage(data: Mapping[str, Any], at: datetime) -> None:
    try:
        services.start_stage(**data, at=at)
    except (services.WorkerNotFound, services.WorkerInOtherPool):
        # Its queue is that of another pool than the one in which its worker is shown.
        services.start_stage(**{**data, "worker_id": None}, at=at)


def _requeue_stage(data: Mapping[str, Any], at: datetime) -> None:
    with suppress(services.IllegalTransition):
        # Its start may be missing: the observer was without the broker.
        services.start_stage(workflow_id=data["workflow_id"], stage_name=data["stage_name"], at=at)
    services.requeue_stage(**data, at=at)


def _change_stage_status(data: Mapping[str, Any], at: datetime) -> None:
    services.skip_stage(workflow_id=data["workflow_id"], stage_name=data["stage_name"], at=at)


def _create_pool(data: Mapping[str, Any], at: datetime) -> None:
    with suppress(services.AlreadyExists):
        services.create_pool(pool_id=data["pool_id"], at=at)


def _add_worker(data: Mapping[str, Any], at: datetime) -> None:
    services.register_worker(**data, at=at)


def _change_worker_status(data: Mapping[str, Any], at: datetime) -> None:
    services.change_worker_status(worker_id=data["worker_id"], status=data["status"], at=at)


_STORES: Final[Mapping[str, Store]] = {
    "workflow.started": _start_workflow,
    "workflow.stage_added": _add_stage,
    "workflow.stages_queued": _queue_stages,
    "workflow.stage_started": _start_stage,
    "workflow.stage_retrying": _requeue_stage,
    "workflow.stage_log": lambda data, at: services.add_message(**data, at=at),
    "workflow.stage_completed": lambda data, at: services.complete_stage(**data, at=at),
    "workflow.stage_failed": lambda data, at: services.fail_stage(**data, at=at),
    "workflow.stage_status_changed": _change_stage_status,
    "workflow.completed": lambda data, at: services.complete_workflow(**data, at=at),
    "workflow.failed": lambda data, at: services.fail_workflow(**data, at=at),
    "workflow.cancelled": lambda data, at: services.cancel_workflow(**data, at=at),
    "pool.created": _create_pool,
    "worker.added": _add_worker,
    "worker.status_changed": _change_worker_status,
}
