"""The words for where a pool, a worker, a workflow or a stage stands."""

from __future__ import annotations

from typing import Final

from django.db import models


class PoolStatus(models.TextChoices):
    ACTIVE = "active"
    DRAINING = "draining"
    CLOSED = "closed"


class WorkerStatus(models.TextChoices):
    IDLE = "idle"
    BUSY = "busy"
    ERROR = "error"
    OFFLINE = "offline"


class WorkflowStatus(models.TextChoices):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


class StageStatus(models.TextChoices):
    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


# Lists, not sets: they are written into constraints, and a migration must come out the same every time.
FINISHED_WORKFLOW_STATUSES: Final = [
    WorkflowStatus.COMPLETED.value,
    WorkflowStatus.FAILED.value,
    WorkflowStatus.CANCELLED.value,
    WorkflowStatus.TIMEOUT.value,
]
FINISHED_STAGE_STATUSES: Final = [
    StageStatus.COMPLETED.value,
    StageStatus.FAILED.value,
    StageStatus.SKIPPED.value,
    StageStatus.CANCELLED.value,
]
