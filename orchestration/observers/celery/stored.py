"""What earlier observers of an application have stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from orchestration.models import Stage, Workflow
from orchestration.observers.celery.bounds import MAX_TASKS, MAX_TREES
from orchestration.observers.celery.identity import Identity
from orchestration.observers.celery.reports import REPORTED_BY, StoredTask

_TREES_PER_QUERY: Final = 500
_COLUMNS: Final = ("workflow_id", "name", "status", "attempt", "error")


def unfinished_tasks(identity: Identity) -> Iterator[StoredTask]:
    """Return the tasks of the newest unfinished workflows that an observer with this prefix has reported."""
    unfinished = Workflow.objects.filter(
        reported_by=REPORTED_BY, plan__isnull=True, finished_at__isnull=True, pk__startswith=f"{identity.prefix}-"
    )
    ids = list(unfinished.order_by("-created_at").values_list("pk", flat=True)[:MAX_TREES])
    room = MAX_TASKS
    for start in range(0, len(ids), _TREES_PER_QUERY):
        stages = Stage.objects.filter(workflow_id__in=ids[start : start + _TREES_PER_QUERY])
        rows = stages.order_by("workflow_id", "position").values_list(*_COLUMNS)[:room]
        for workflow_id, name, status, attempt, error in rows:
            room -= 1
            yield StoredTask(workflow_id, name, status, max(0, attempt - 1), error)


def is_finished(workflow_id: str) -> bool:
    """Check whether this workflow has ended."""
    return Workflow.objects.filter(pk=workflow_id, finished_at__isnull=False).exists()
