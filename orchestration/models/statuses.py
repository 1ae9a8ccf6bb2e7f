"""The statuses of pools, workers, workflows and stages."""

from __future__ import annotations

from typing import Final

from django.db import models


class PoolStatus(models.TextChoices):
    """Whether a pool accepts new workflows (active), only finishes its own (draining), or has ended (closed)."""

    ACTIVE = "active"
    DRAINING = "draining"
    CLOSED = "closed"


class WorkerStatus(models.TextChoices):
    """What a worker does now."""

    IDLE = "idle"
    BUSY = "busy"
    ERROR = "error"
    OFFLINE = "offline"


class WorkflowStatus(models.TextChoices):
    """How far a workflow is. With the last four it is finished; only a retry of the run changes those."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"


class StageStatus(models.TextChoices):
    """How far a stage is. With the last four it is finished; only a retry of the run changes those.

    A stage that waits holds no slot of its pool: for its items, for an answer, for a time or for another run.
    """

    PENDING = "pending"
    QUEUED = "queued"
    RUNNING = "running"
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class WaitKind(models.TextChoices):
    """What a stage waits for: the answer of a person or program, a signal, or a time."""

    ASK = "ask"
    SIGNAL = "signal"
    SLEEP = "sleep"


class WaitStatus(models.TextChoices):
    """How a wait ended. A closed one ended with its run, or with its stage."""

    OPEN = "open"
    ANSWERED = "answered"
    EXPIRED = "expired"
    CLOSED = "closed"


class FailureReason(models.TextChoices):
    """Why an attempt ended without success.

    The stage did not cause the last three. A released one was given back, because its worker stopped as planned; one
    that was not runnable, because its worker lacks something that the stage needs.
    """

    FAILED = "failed"
    TIMED_OUT = "timed_out"
    LOST = "lost"
    RELEASED = "released"
    NOT_RUNNABLE = "not_runnable"


class HoldReason(models.TextChoices):
    """Why a run waits: its pool has no worker, or none with the code or the release that it needs."""

    NO_WORKER = "no_worker"
    NO_WORKER_WITH = "no_worker_with"


# Lists, not sets: constraints contain them, and a generated migration needs a stable order.
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
