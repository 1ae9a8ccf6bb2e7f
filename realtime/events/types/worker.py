"""Events of a worker. They belong to its channel and to the channel of its pool."""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar, Self

from django.dispatch import Signal

from orchestration import signals
from orchestration.models import Worker
from realtime.events.types.base import EventData
from realtime.protocol.channels import channel_of


class WorkerEvent(EventData, kw_only=True):
    """An event of one worker."""

    rooms_from: ClassVar[tuple[str, ...]] = ("worker", "pool")
    worker_id: str

    @classmethod
    def from_signal(cls, *, worker: Worker, at: datetime, **_: Any) -> Self:
        stage = _stage_of(worker) if "stage_name" in cls.__struct_fields__ else {}
        return cls._build(worker, worker_id=worker.pk, **stage, timestamp=at)


class WorkerStatusChanged(WorkerEvent, kw_only=True):
    """A worker's status changes to `idle`, `busy`, `error` or `offline`.

    Attributes:
        status: The new status.
        pool_id: Its pool.
        release: The release of its code, which may be another one after it was offline. May be empty.
        draining: Whether it starts no further stage.
        workflow_id: The workflow of the stage that it runs; null if it runs none, or if that is unknown.
        stage_name: The stage that it runs.
    """

    event: ClassVar[str] = "worker.status_changed"
    signal: ClassVar[Signal] = signals.worker_status_changed
    sample: ClassVar[dict[str, Any]] = {
        "status": "idle",
        "pool_id": "pool_local",
        "release": "",
        "draining": False,
        "workflow_id": None,
        "stage_name": None,
    }
    status: str
    pool_id: str
    release: str
    draining: bool
    workflow_id: str | None
    stage_name: str | None

    @classmethod
    def from_signal(cls, *, worker: Worker, at: datetime, **arguments: Any) -> Self:
        # The subscribers of its new pool do not know by whom it has been reported.
        build = cls._build_new if arguments["has_moved"] else cls._build
        return build(worker, worker_id=worker.pk, **_stage_of(worker), timestamp=at)


class WorkerAdded(WorkerStatusChanged, kw_only=True):
    """A worker is registered. `status` is its initial status."""

    event: ClassVar[str] = "worker.added"
    signal: ClassVar[Signal] = signals.worker_added

    @classmethod
    def from_signal(cls, *, worker: Worker, at: datetime, **_: Any) -> Self:
        return cls._build_new(worker, worker_id=worker.pk, **_stage_of(worker), timestamp=at)


class WorkerStageChanged(WorkerEvent, kw_only=True):
    """A worker runs another stage, and its status is the same: it continued with the next stage at once."""

    event: ClassVar[str] = "worker.stage_changed"
    signal: ClassVar[Signal] = signals.worker_stage_changed
    sample: ClassVar[dict[str, Any]] = {"pool_id": "pool_local", "workflow_id": "wf_test", "stage_name": "test"}
    pool_id: str
    workflow_id: str | None
    stage_name: str | None


class WorkerMoved(WorkerEvent, kw_only=True):
    """A worker joins the pool `pool_id` after it was offline in the pool `from_pool_id`."""

    event: ClassVar[str] = "worker.moved"
    signal: ClassVar[Signal] = signals.worker_moved
    sample: ClassVar[dict[str, Any]] = {"pool_id": "pool_local", "from_pool_id": "pool_other"}
    pool_id: str
    from_pool_id: str

    @classmethod
    def from_signal(cls, *, worker: Worker, at: datetime, **arguments: Any) -> Self:
        return cls._build(worker, worker_id=worker.pk, from_pool_id=arguments["from_pool_id"], timestamp=at)

    def rooms(self) -> tuple[str, ...]:
        return (*super().rooms(), channel_of("pool", self.from_pool_id))


class WorkerDraining(WorkerEvent, kw_only=True):
    """A worker starts no further stage. It is offline when its stage ends."""

    event: ClassVar[str] = "worker.draining"
    signal: ClassVar[Signal] = signals.worker_draining
    sample: ClassVar[dict[str, Any]] = {"pool_id": "pool_local"}
    pool_id: str


class WorkerRemoved(WorkerEvent, kw_only=True):
    """A worker is removed."""

    event: ClassVar[str] = "worker.removed"
    signal: ClassVar[Signal] = signals.worker_removed
    sample: ClassVar[dict[str, Any]] = {"pool_id": "pool_local"}
    pool_id: str


def _stage_of(worker: Worker) -> dict[str, str | None]:
    if worker.stage is None:
        return {"workflow_id": None, "stage_name": None}
    return {"workflow_id": worker.stage.workflow_id, "stage_name": worker.stage.name}
