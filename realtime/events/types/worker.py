"""Events of a worker. They belong to its channel and to the channel of its pool."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Self

from django.dispatch import Signal

from orchestration import signals
from orchestration.models import Worker
from realtime.events.types.base import EventData


class WorkerEvent(EventData, kw_only=True):
    """An event of one worker."""

    rooms_from: ClassVar[tuple[str, ...]] = ("worker", "pool")
    worker_id: str

    @classmethod
    def from_signal(cls, *, worker: Worker, at: datetime, **_: Any) -> Self:
        return cls._build(worker, worker_id=worker.pk, timestamp=at)


class WorkerStatusChanged(WorkerEvent, kw_only=True):
    """A worker's status changes to `idle`, `busy`, `error` or `offline`.

    Attributes:
        status: The new status.
        pool_id: Its pool.
        release: The release of its code, which may be another one after it was offline. May be empty.
    """

    name: ClassVar[str] = "worker.status_changed"
    signal: ClassVar[Signal] = signals.worker_status_changed
    sample: ClassVar[dict[str, Any]] = {"status": "idle", "pool_id": "pool_local", "release": ""}
    status: str
    pool_id: str
    release: str


class WorkerAdded(WorkerStatusChanged, kw_only=True):
    """A worker is registered. `status` is its initial status."""

    name: ClassVar[str] = "worker.added"
    signal: ClassVar[Signal] = signals.worker_added


class WorkerDraining(WorkerEvent, kw_only=True):
    """A worker starts no further stage. It is offline when its stage ends."""

    name: ClassVar[str] = "worker.draining"
    signal: ClassVar[Signal] = signals.worker_draining
    sample: ClassVar[dict[str, Any]] = {"pool_id": "pool_local"}
    pool_id: str


class WorkerRemoved(WorkerEvent, kw_only=True):
    """A worker is removed."""

    name: ClassVar[str] = "worker.removed"
    signal: ClassVar[Signal] = signals.worker_removed
    sample: ClassVar[dict[str, Any]] = {"pool_id": "pool_local"}
    pool_id: str
