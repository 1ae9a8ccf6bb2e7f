"""How each status looks in the admin: its sign, its word and its colour. `dashboard/statuses.js` has the same."""

from __future__ import annotations

from typing import Final, NamedTuple

from orchestration.models import PoolStatus, StageStatus, WaitStatus, WorkerStatus, WorkflowStatus


class Look(NamedTuple):
    """The sign, the word and the colour of a status, always shown in this order.

    Attributes:
        sign: One character.
        word: May differ from the stored name of the status.
        colour: The name of a variable of `tokens.css`.
    """

    sign: str
    word: str
    colour: str


_PENDING: Final = Look("○", "pending", "neutral")
_RUNNING: Final = Look("◐", "running", "running")
_COMPLETED: Final = Look("✓", "completed", "success")
_FAILED: Final = Look("✕", "failed", "failure")
_CANCELLED: Final = Look("⊘", "cancelled", "cancelled")

STATUSES: Final[dict[str, dict[str, Look]]] = {
    "workflow": {
        WorkflowStatus.PENDING: _PENDING,
        WorkflowStatus.RUNNING: _RUNNING,
        WorkflowStatus.COMPLETED: _COMPLETED,
        WorkflowStatus.FAILED: _FAILED,
        WorkflowStatus.CANCELLED: _CANCELLED,
        WorkflowStatus.TIMEOUT: Look("◷", "timed out", "timeout"),
    },
    "stage": {
        StageStatus.PENDING: _PENDING,
        StageStatus.QUEUED: Look("↻", "queued", "waiting"),
        StageStatus.RUNNING: _RUNNING,
        StageStatus.WAITING: Look("‖", "waiting", "waiting"),
        StageStatus.COMPLETED: _COMPLETED,
        StageStatus.FAILED: _FAILED,
        StageStatus.SKIPPED: Look("\N{EN DASH}", "skipped", "neutral"),
        StageStatus.CANCELLED: _CANCELLED,
    },
    "worker": {
        WorkerStatus.IDLE: Look("✓", "idle", "success"),
        WorkerStatus.BUSY: Look("◐", "busy", "running"),
        WorkerStatus.ERROR: Look("✕", "error", "failure"),
        WorkerStatus.OFFLINE: Look("⌀", "offline", "neutral"),
    },
    "pool": {
        PoolStatus.ACTIVE: Look("●", "open", "success"),
        PoolStatus.DRAINING: Look("!", "draining", "waiting"),
        PoolStatus.CLOSED: Look("\N{EN DASH}", "closed", "neutral"),
    },
    "wait": {
        WaitStatus.OPEN: Look("‖", "open", "waiting"),
        WaitStatus.ANSWERED: Look("✓", "answered", "success"),
        WaitStatus.EXPIRED: Look("◷", "expired", "timeout"),
        WaitStatus.CLOSED: Look("\N{EN DASH}", "closed", "neutral"),
    },
}
"""By the name of the model and the stored status."""

DRAINING: Final = Look("!", "draining", "waiting")
"""A worker that starts no further stage."""

HELD: Final = Look("!", "held", "waiting")
"""A workflow that no worker can take now."""
