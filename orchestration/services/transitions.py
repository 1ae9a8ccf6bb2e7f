"""The allowed status transitions."""

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

# A worker may report any status except its current one. So if two callers claim one idle worker, the second is
# rejected.
WORKER_TRANSITIONS: Final[Mapping[str, frozenset[str]]] = {
    WorkerStatus.IDLE: frozenset({WorkerStatus.BUSY, WorkerStatus.ERROR, WorkerStatus.OFFLINE}),
    WorkerStatus.BUSY: frozenset({WorkerStatus.IDLE, WorkerStatus.ERROR, WorkerStatus.OFFLINE}),
    WorkerStatus.ERROR: frozenset({WorkerStatus.IDLE, WorkerStatus.BUSY, WorkerStatus.OFFLINE}),
    # It must register again before it can be busy.
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

# A stage is cancelled only with its workflow. Completed may follow pending: an external orchestrator may report only
# completions.
STAGE_TRANSITIONS: Final[Mapping[str, frozenset[str]]] = {
    StageStatus.PENDING: frozenset(
        {StageStatus.QUEUED, StageStatus.RUNNING, StageStatus.COMPLETED, StageStatus.FAILED, StageStatus.SKIPPED}
    ),
    StageStatus.QUEUED: frozenset(
        {StageStatus.RUNNING, StageStatus.COMPLETED, StageStatus.FAILED, StageStatus.SKIPPED}
    ),
    StageStatus.RUNNING: frozenset({StageStatus.COMPLETED, StageStatus.FAILED}),
    # Only the engine lets a stage wait.
    StageStatus.WAITING: frozenset(),
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
    """The requested status may not follow the stored one, or the change is not allowed in the stored one.

    Args:
        kind: The kind of the row, such as `workflow`.
        id: The row.
        current: Its stored status.
        requested: The requested status; that of a change which keeps the status is `current`.
        rule: What is allowed, for a change that the table of transitions does not describe.
    """

    def __init__(self, kind: str, id: str, current: str, requested: str, rule: str = "") -> None:
        self.kind = kind
        self.id = id
        self.current = str(current)
        self.requested = str(requested)
        self.allowed = sorted(str(status) for status in TRANSITIONS[kind][current])
        self.rule = rule
        super().__init__(kind, id, current, requested, rule)

    def __str__(self) -> str:
        subject = f"{self.kind.capitalize()} {self.id} has status {self.current}"
        if self.rule:
            return f"{subject}; {self.rule}."
        allowed = ", ".join(self.allowed) or "no other status"
        return f"{subject} and cannot become {self.requested}; allowed: {allowed}."


def check_transition(kind: str, id: str, *, current: str, requested: str) -> None:
    """Check that a transition is allowed.

    Raises:
        IllegalTransition: if `requested` may not follow `current`.
    """
    if requested not in TRANSITIONS[kind][current]:
        raise IllegalTransition(kind, id, current, requested)
