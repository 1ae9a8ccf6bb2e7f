"""The numbers on the first page of the admin. Each count reads a bounded number of rows."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final, NamedTuple

from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone

from orchestration.admin.paginator import MAX_LISTED
from orchestration.admin.statuses import STATUSES, Look
from orchestration.models import Worker, WorkerStatus, Workflow, WorkflowStatus

_FAILED_WITHIN: Final = timedelta(hours=24)


class Count(NamedTuple):
    """A number of rows, and the list of them.

    Attributes:
        look: The status that they have.
        what: What is counted, such as `running`.
        number: The count, or `10000+` if there are more.
        url: The address of the list.
    """

    look: Look
    what: str
    number: str
    url: str


def overview_counts() -> list[Count]:
    """Count what an operator looks for first: runs that run, that wait, that failed lately, and workers."""
    workflows, workers = Workflow.objects.all(), Worker.objects.all()
    lately = workflows.filter(finished_at__gte=timezone.now() - _FAILED_WITHIN)
    failed, running, pending = WorkflowStatus.FAILED, WorkflowStatus.RUNNING, WorkflowStatus.PENDING
    return [
        _count(workflows.filter(status=running), "workflow", running, "running"),
        _count(workflows.filter(status=pending), "workflow", pending, "pending"),
        _count(lately.filter(status=failed), "workflow", failed, "failed in 24 h"),
        _count(workers.filter(status=WorkerStatus.BUSY), "worker", WorkerStatus.BUSY, "workers busy"),
        _count(workers.filter(status=WorkerStatus.IDLE), "worker", WorkerStatus.IDLE, "workers idle"),
    ]


def _count(rows: QuerySet[Any], kind: str, status: str, what: str) -> Count:
    number = rows.order_by()[: MAX_LISTED + 1].count()
    url = f"{reverse(f'admin:orchestration_{kind}_changelist')}?status__exact={status}"
    return Count(STATUSES[kind][status], what, str(number) if number <= MAX_LISTED else f"{MAX_LISTED}+", url)
