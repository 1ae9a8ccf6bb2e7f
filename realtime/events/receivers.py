"""The one place that turns a change into an event: signals of `orchestration` in, rows of the log and a push out.

A receiver runs inside the transaction of the change. What it announces is written as the transaction's last statements
(`orchestration.db.before_commit`) and pushed once it is committed (`realtime.broadcast.publisher`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

from django.conf import settings
from django.dispatch import Signal

from orchestration import services, signals
from orchestration.db import before_commit
from orchestration.models import FailedAttempt, Pool, Stage, Worker, Workflow
from realtime.broadcast.publisher import publisher
from realtime.eventlog.append import NewEvent, append_events
from realtime.events import types
from realtime.events.truncation import truncate
from realtime.events.types import EventData, pool_metrics
from realtime.protocol.channels import GLOBAL


@dataclass(frozen=True, slots=True)
class Announcement:
    """One event of the current transaction, not yet in the log.

    Attributes:
        on_written: Called with the event's `seq` once it has one, still inside the transaction.
    """

    name: str
    timestamp: datetime
    data: EventData | Mapping[str, Any]
    rooms: tuple[str, ...]
    on_written: Callable[[int], None] | None = None


@dataclass(frozen=True, slots=True)
class PoolMetricsAnnouncement:
    """That a pool's metrics changed. Read at the end, so that many changes of one transaction make one true event."""

    pool_id: str
    timestamp: datetime


def announce(data: EventData) -> None:
    """Announce an event when, and only if, the current transaction commits."""
    before_commit.collect(Announcement(data.name, data.timestamp, data, data.rooms()))


def announce_as_given(
    name: str,
    *,
    data: Mapping[str, Any],
    rooms: tuple[str, ...],
    timestamp: datetime,
    on_written: Callable[[int], None] | None = None,
) -> None:
    """Announce an event no change of state caused, as `emit_test_event` does."""
    before_commit.collect(Announcement(name, timestamp, data, rooms, on_written))


def append_collected(collected: list[Announcement | PoolMetricsAnnouncement]) -> Callable[[], None]:
    """Put what a transaction announced into the log, and return the push that follows the commit."""
    announcements = [item for item in collected if isinstance(item, Announcement)]
    metrics = {item.pool_id: item.timestamp for item in collected if isinstance(item, PoolMetricsAnnouncement)}
    if metrics:
        pools = services.pools_to_publish(metrics)
        announcements.extend(_pool_status_changed(pool, metrics[pool.pk]) for pool in pools)
    if not announcements:
        return _nothing
    max_bytes = settings.MAHAVISHNU_LIMITS.max_event_data_bytes
    deliveries = append_events(
        [
            NewEvent(
                name=item.name,
                timestamp=item.timestamp,
                data=truncate(item.data, max_bytes=max_bytes),
                rooms=item.rooms,
            )
            for item in announcements
        ]
    )
    # Every event is in `global`, once.
    seqs = (delivery.event.seq for delivery in deliveries if delivery.room == GLOBAL)
    for item, seq in zip(announcements, seqs, strict=True):
        if item.on_written is not None:
            item.on_written(seq)
    return partial(publisher().publish, deliveries)


def _nothing() -> None:
    """What follows a commit that announced nothing."""


def _pool_status_changed(pool: Pool, timestamp: datetime) -> Announcement:
    data = types.PoolStatusChanged(pool_id=pool.pk, status=pool_metrics(pool), timestamp=timestamp)
    return Announcement(data.name, timestamp, data, data.rooms())


def on_workflow_created(*, workflow: Workflow, at: datetime, **_: Any) -> None:
    announce(
        types.WorkflowCreated(
            workflow_id=workflow.pk,
            adapter=workflow.adapter,
            prompt=workflow.prompt,
            total_stages=workflow.total_stages,
            timestamp=at,
        )
    )


def on_workflow_started(*, workflow: Workflow, at: datetime, **_: Any) -> None:
    announce(
        types.WorkflowStarted(workflow_id=workflow.pk, adapter=workflow.adapter, prompt=workflow.prompt, timestamp=at)
    )


def on_workflow_completed(*, workflow: Workflow, at: datetime, **_: Any) -> None:
    announce(types.WorkflowCompleted(workflow_id=workflow.pk, result=workflow.result, timestamp=at))


def on_workflow_failed(*, workflow: Workflow, at: datetime, **_: Any) -> None:
    announce(types.WorkflowFailed(workflow_id=workflow.pk, error=workflow.error, status=workflow.status, timestamp=at))


def on_workflow_cancelled(*, workflow: Workflow, at: datetime, **_: Any) -> None:
    announce(types.WorkflowCancelled(workflow_id=workflow.pk, reason=workflow.error, timestamp=at))


def on_stage_started(*, stage: Stage, at: datetime, **_: Any) -> None:
    announce(
        types.WorkflowStageStarted(
            workflow_id=stage.workflow_id, stage_name=stage.name, worker_id=stage.worker_id, timestamp=at
        )
    )


def on_stage_completed(*, stage: Stage, at: datetime, **_: Any) -> None:
    announce(
        types.WorkflowStageCompleted(
            workflow_id=stage.workflow_id, stage_name=stage.name, result=stage.result, timestamp=at
        )
    )


def on_stage_failed(*, stage: Stage, at: datetime, **_: Any) -> None:
    announce(
        types.WorkflowStageFailed(workflow_id=stage.workflow_id, stage_name=stage.name, error=stage.error, timestamp=at)
    )


def on_stage_retrying(*, stage: Stage, failed: FailedAttempt, at: datetime, **_: Any) -> None:
    announce(
        types.WorkflowStageRetrying(
            workflow_id=stage.workflow_id,
            stage_name=stage.name,
            attempt=failed.attempt,
            reason=failed.reason,
            error=failed.error,
            retry_at=stage.retry_at,
            timestamp=at,
        )
    )


def on_stage_progressed(*, stage: Stage, at: datetime, **_: Any) -> None:
    announce(
        types.WorkflowStageProgress(
            workflow_id=stage.workflow_id,
            stage_name=stage.name,
            progress=0.0 if stage.progress is None else stage.progress,
            message=stage.progress_message,
            timestamp=at,
        )
    )


def on_stage_logged(*, stage: Stage, message: str, at: datetime, **_: Any) -> None:
    announce(
        types.WorkflowStageLog(workflow_id=stage.workflow_id, stage_name=stage.name, message=message, timestamp=at)
    )


def on_worker_added(*, worker: Worker, at: datetime, **_: Any) -> None:
    announce(types.WorkerAdded(worker_id=worker.pk, status=worker.status, pool_id=worker.pool_id, timestamp=at))


def on_worker_status_changed(*, worker: Worker, at: datetime, **_: Any) -> None:
    announce(types.WorkerStatusChanged(worker_id=worker.pk, status=worker.status, pool_id=worker.pool_id, timestamp=at))


def on_worker_removed(*, worker: Worker, at: datetime, **_: Any) -> None:
    announce(types.WorkerRemoved(worker_id=worker.pk, pool_id=worker.pool_id, timestamp=at))


def on_pool_created(*, pool: Pool, at: datetime, **_: Any) -> None:
    announce(types.PoolCreated(pool_id=pool.pk, timestamp=at))


def on_pool_drained(*, pool: Pool, at: datetime, **_: Any) -> None:
    announce(types.PoolDrained(pool_id=pool.pk, timestamp=at))


def on_pool_reopened(*, pool: Pool, at: datetime, **_: Any) -> None:
    announce(types.PoolReopened(pool_id=pool.pk, timestamp=at))


def on_pool_closed(*, pool: Pool, at: datetime, **_: Any) -> None:
    announce(types.PoolClosed(pool_id=pool.pk, timestamp=at))


def on_pool_metrics_changed(*, pool_id: str, at: datetime, **_: Any) -> None:
    before_commit.collect(PoolMetricsAnnouncement(pool_id, at))


_RECEIVERS: dict[Signal, Any] = {
    signals.workflow_created: on_workflow_created,
    signals.workflow_started: on_workflow_started,
    signals.workflow_completed: on_workflow_completed,
    signals.workflow_failed: on_workflow_failed,
    signals.workflow_cancelled: on_workflow_cancelled,
    signals.stage_started: on_stage_started,
    signals.stage_completed: on_stage_completed,
    signals.stage_failed: on_stage_failed,
    signals.stage_retrying: on_stage_retrying,
    signals.stage_progressed: on_stage_progressed,
    signals.stage_logged: on_stage_logged,
    signals.worker_added: on_worker_added,
    signals.worker_status_changed: on_worker_status_changed,
    signals.worker_removed: on_worker_removed,
    signals.pool_created: on_pool_created,
    signals.pool_drained: on_pool_drained,
    signals.pool_reopened: on_pool_reopened,
    signals.pool_closed: on_pool_closed,
    signals.pool_metrics_changed: on_pool_metrics_changed,
}


def connect() -> None:
    """Listen to every signal of `orchestration`, and write what they announce before each commit."""
    before_commit.install(append_collected)
    for signal, receiver in _RECEIVERS.items():
        signal.connect(receiver, dispatch_uid=f"realtime.events.receivers.{receiver.__name__}")
