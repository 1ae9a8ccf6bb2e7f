"""What an orchestrator elsewhere reports: changes of its runs, stages, workers and pools."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestration.models import FailureReason, PoolStatus, StageStatus, WorkflowStatus
from orchestration.reporter import current_reporter
from orchestration.services.errors import ServiceError


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedStage:
    """A stage of a new run. Stages of one step run in parallel."""

    name: str
    step: int = 0
    last_attempt: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """A run has this status. A run that is not known is created if it is pending or running.

    Attributes:
        at: When it changed.
        workflow_id: The run.
        status: Its new status.
        name, adapter, prompt, params, pool_id, stages: Of a new run.
        result: Of a completed run.
        error: Of another finished run.
    """

    at: datetime
    workflow_id: str
    status: WorkflowStatus
    name: str = ""
    adapter: str = ""
    prompt: str = ""
    params: Mapping[str, Any] | None = None
    pool_id: str | None = None
    stages: tuple[ReportedStage, ...] = ()
    result: Mapping[str, Any] | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """A stage of a run has this status. A stage that is not known is added behind the others.

    Attributes:
        at: When it changed.
        workflow_id: The run.
        stage_name: The stage.
        status: Its new status.
        pool_id: The pool of a stage that is not known; None for the pool of its run.
        worker_id: The worker that runs it.
        result: Of a completed stage.
        error: Of a failed stage.
    """

    at: datetime
    workflow_id: str
    stage_name: str
    status: StageStatus
    pool_id: str | None = None
    worker_id: str | None = None
    result: Mapping[str, Any] | None = None
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptFailure:
    """An attempt at a stage has failed, and another one follows: the stage is queued again.

    A stage that is not running has started without a report: it is started first, without a worker.

    Attributes:
        at: When the attempt failed.
        workflow_id: The run.
        stage_name: The stage.
        error: Its error.
        reason: Why there is another attempt.
    """

    at: datetime
    workflow_id: str
    stage_name: str
    error: str
    reason: FailureReason = FailureReason.FAILED


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMessage:
    """A message about an unfinished stage, for the subscribers of its run."""

    at: datetime
    workflow_id: str
    stage_name: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """A worker has this status. A worker that is not known is registered in the pool.

    Attributes:
        at: When it changed.
        worker_id: The worker.
        status: Its new status: idle, busy, error or offline.
        pool_id: Its pool; None if it is known.
        is_registration: Whether it has just started, so it may be busy after it was offline.
    """

    at: datetime
    worker_id: str
    status: str
    pool_id: str | None = None
    is_registration: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRemoval:
    """A worker is removed."""

    at: datetime
    worker_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolReport:
    """A pool has this status. A pool that is not known is created if it is active."""

    at: datetime
    pool_id: str
    status: PoolStatus
    is_new: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolMetricsReport:
    """A pool has these counters. From then on, they are no longer counted here."""

    at: datetime
    pool_id: str
    counters: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """Something that changes no state here; `announce` makes its event."""

    announce: Callable[[], None]


ReportOfStage = StageReport | AttemptFailure | StageMessage
Report = RunReport | ReportOfStage | WorkerReport | WorkerRemoval | PoolReport | PoolMetricsReport | Notice


def is_reported_again(stored: Any, result: dict[str, Any] | None, stored_error: str, error: str) -> bool:
    """Return whether a finished run or stage has what is reported again, beside the duration that is added."""
    if result is not None:
        return isinstance(stored, dict) and all(key in stored and stored[key] == value for key, value in result.items())
    return stored_error == error


class EngineOwned(ServiceError):
    """A run, worker or pool of this installation cannot be changed by reports."""

    def __init__(self, kind: str, id: str) -> None:
        self.kind = kind
        self.id = id
        super().__init__(kind, id)

    def __str__(self) -> str:
        return f"{self.kind.capitalize()} {self.id} belongs to this installation, which changes it itself."


class ReportedByOther(ServiceError):
    """The reporter may change what it has reported itself, and not this run, worker or pool."""

    def __init__(self, kind: str, id: str) -> None:
        self.kind = kind
        self.id = id
        self.reporter = current_reporter()
        super().__init__(kind, id)

    def __str__(self) -> str:
        return f"{self.kind.capitalize()} {self.id} was not reported by {self.reporter}, which cannot change it."


class CreationNotAllowed(ServiceError):
    """The reporter may not create this pool, or workers in it."""

    def __init__(self, pool_id: str) -> None:
        self.pool_id = pool_id
        super().__init__(pool_id)

    def __str__(self) -> str:
        return f"No permission to write pool:{self.pool_id}"
