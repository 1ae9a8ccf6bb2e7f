"""Which status may follow which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from orchestration.models import PoolStatus, StageStatus, WorkerStatus, WorkflowStatus
from orchestration.services.errors import ServiceError

POOL_TRANSITIONS: Final[Mapping[str, frozenset[str]]] = {
    PoolStatus.ACTIVE: frozenset({PoolStatus.DRAINING, PoolStatus.CLOSED}),
    PoolStatus.DRAINING: frozenset({PoolStatus.ACTIVE, PoolStatus.CLOSED}),
    PoolStatus.CLOSED: frozenset(),
}

# A worker may report any status but the one it has: of two that claim an idle worker, the second is told.
WORKER_TRANSITIONS: Final[Mapping[str, frozenset[str]]] = {
    WorkerStatus.IDLE: frozenset({WorkerStatus.BUSY, WorkerStatus.ERROR, WorkerStatus.OFFLINE}),
    WorkerStatus.BUSY: frozenset({WorkerStatus.IDLE, WorkerStatus.ERROR, WorkerStatus.OFFLINE}),
    WorkerStatus.ERROR: frozenset({WorkerStatus.IDLE, WorkerStatus.BUSY, WorkerStatus.OFFLINE}),
    # It must come back before it can work.
    WorkerStatus.OFFLINE: frozenset({WorkerStatus.IDLE, WorkerStatus.ERROR}),
}

WORKFLOW_TRANSITIONS: Final[Mapping[str, frozenset[str]]] = {
    WorkflowStatus.PENDING: frozenset(
        {WorkflowStatus.RUNNING, WorkflowStatus.FAILED, WorkflowStatus.CANCELLED, WorkflowStatus.TIMEOUT}
    ),
    WorkflowStatus.RUNNING: frozenset(
        {WorkflowStatus.COMPLETED, WorkflowStatus.FAILED, WorkflowStatus.CANCELLED, WorkflowStatus.TIMEOUT}
    ),
    WorkflowStatus.COMPLETED: frozenset(),
    WorkflowStatus.FAILED: frozenset(),
    WorkflowStatus.CANCELLED: frozenset(),
    WorkflowStatus.TIMEOUT: frozenset(),
}

# A stage is cancelled only with its workflow. Completed may follow pending: those with an orchestrator of their own may
# report nothing but completions.
STAGE_TRANSITIONS: Final[Mapping[str, frozenset[str]]] = {
    StageStatus.PENDING: frozenset(
        {StageStatus.QUEUED, StageStatus.RUNNING, StageStatus.COMPLETED, StageStatus.FAILED, StageStatus.SKIPPED}
    ),
    StageStatus.QUEUED: frozenset(
        {StageStatus.RUNNING, StageStatus.COMPLETED, StageStatus.FAILED, StageStatus.SKIPPED}
    ),
    StageStatus.RUNNING: frozenset({StageStatus.COMPLETED, StageStatus.FAILED}),
    StageStatus.COMPLETED: frozenset(),
    StageStatus.FAILED: frozenset(),
    StageStatus.SKIPPED: frozenset(),
    StageStatus.CANCELLED: frozenset(),
}

TRANSITIONS: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    "pool": POOL_TRANSITIONS,
    "worker": WORKER_TRANSITIONS,
    "workflow": WORKFLOW_TRANSITIONS,
    "stage": STAGE_TRANSITIONS,
}


class IllegalTransition(ServiceError):
    """The status asked for may not follow the one that is stored."""

    def __init__(self, kind: str, id: str, current: str, requested: str) -> None:
        self.kind = kind
        self.id = id
        self.current = str(current)
        self.requested = str(requested)
        self.allowed = sorted(str(status) for status in TRANSITIONS[kind][current])
        super().__init__(kind, id, current, requested)

    def __str__(self) -> str:
        allowed = ", ".join(self.allowed) or "nothing"
        return (
            f"The {self.kind} {self.id} is {self.current} and cannot become {self.requested}; "
            f"after {self.current}, {allowed} may follow."
        )


def check_transition(kind: str, id: str, *, current: str, requested: str) -> None:
    """Let a legal transition pass.

    Raises:
        IllegalTransition: if `requested` may not follow `current`.
    """
    if requested not in TRANSITIONS[kind][current]:
        raise IllegalTransition(kind, id, current, requested)
