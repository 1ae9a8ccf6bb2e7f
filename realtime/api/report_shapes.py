"""What each event that can be reported means: the reference's own shapes, read as reports of `orchestration`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

from django.conf import settings

from orchestration.models import PoolStatus, StageStatus, WorkflowStatus
from orchestration.services import report_types as r
from orchestration.services import validation
from orchestration.services.errors import ServiceError
from realtime.api.report_body import InvalidEvent, ReportedEvent
from realtime.events.receivers import announce_as_given
from realtime.events.truncation import truncate_json
from realtime.events.types import EVENT_TYPES
from realtime.limits import Limits
from realtime.protocol.channels import GLOBAL, InvalidChannel, channel_of, check_channel, source_of, split_channel

Data = Mapping[str, Any]

_OWN_FIELDS: Final = frozenset({"timestamp", "test", "truncated", "reported_by", "reported_at"})
"""Fields that only the server sets."""

_RESERVED_PREFIX: Final = "session."

_KINDS_BY_FIRST_WORD: Final[Mapping[str, tuple[str, ...]]] = {
    "workflow": ("workflow",),
    "pool": ("pool",),
    "worker": ("worker", "pool"),
}


@dataclass(frozen=True, slots=True)
class ReadReport:
    """An event that was read.

    Attributes:
        report: What it means.
        about: The ids of the resources it is about; all of them need the permission. Empty: it is about none.
        extra_event: The name of the event that its further fields belong to.
        extra: Its further fields.
    """

    report: r.Report
    about: tuple[str, ...]
    extra_event: str
    extra: dict[str, Any]

    @property
    def worker_id(self) -> str | None:
        """The worker that it names for a stage; None if there is none."""
        return self.report.worker_id if isinstance(self.report, r.StageReport) else None


def read_report(event: ReportedEvent) -> ReadReport:
    """Read an event as a report.

    Raises:
        InvalidEvent: if a field is missing, has another type, or the event cannot be reported.
    """
    shape = _SHAPES.get(event.name)
    if shape is None:
        return _notice(event)
    about = _text(event.data, shape.about)
    report = shape.read(event.data, event.at)
    known = _known_fields(shape.event, shape.fields)
    further = {key: value for key, value in event.data.items() if key not in known}
    return ReadReport(report, (about,), shape.event, _extra(event, further))


@cache
def _known_fields(event: str, fields: frozenset[str]) -> frozenset[str]:
    return _OWN_FIELDS | fields | frozenset(EVENT_TYPES[event].__struct_fields__)


def _extra(event: ReportedEvent, fields: dict[str, Any]) -> dict[str, Any]:
    if event.reported_at is not None:
        fields["reported_at"] = event.reported_at
    if not fields:
        return fields
    try:
        checked = validation.json_object("data", fields)
    except ServiceError as error:
        raise InvalidEvent("data", str(error)) from None
    limits: Limits = settings.MAHAVISHNU_LIMITS
    try:
        # At most half, as the event may have fields of the server too. It is truncated when it is stored.
        truncate_json(checked, max_bytes=limits.max_event_data_bytes // 2)
    except ValueError:
        raise InvalidEvent("data", "expected fewer fields with shorter names: not even their beginnings fit") from None
    return checked


def _notice(event: ReportedEvent) -> ReadReport:
    """Read an event with another name, which changes no state."""
    if event.name in EVENT_TYPES or event.name.startswith(_RESERVED_PREFIX):
        raise InvalidEvent(
            "event", f"{event.name} cannot be reported; expected {', '.join(_SHAPES)}, or a name of your own"
        )
    kinds = _KINDS_BY_FIRST_WORD.get(event.name.partition(".")[0], ())
    ids = [(kind, _text(event.data, f"{kind}_id")) for kind in kinds if event.data.get(f"{kind}_id") is not None]
    try:
        rooms = [check_channel(channel_of(kind, id)) for kind, id in ids]
        if event.room is not None:
            rooms.append(check_channel(event.room))
    except InvalidChannel as error:
        raise InvalidEvent("room", str(error)) from None
    channels = tuple(dict.fromkeys(room for room in rooms if source_of(room) != GLOBAL))
    data = _extra(event, {key: value for key, value in event.data.items() if key not in _OWN_FIELDS})

    def announce() -> None:
        announce_as_given(event.name, data={"timestamp": event.at, **data}, rooms=channels, timestamp=event.at)

    return ReadReport(r.Notice(announce=announce), tuple(split_channel(room)[1] for room in channels), "", {})


@dataclass(frozen=True, slots=True)
class _Shape:
    """How the data of one event is read.

    Attributes:
        event: The name of the event that the server sends for it.
        about: The field with the id of the resource it is about.
        read: Makes the report from the data and the time.
        fields: The fields that are read, besides those of the event that the server sends.
    """

    event: str
    about: str
    read: Callable[[Data, datetime], r.Report]
    fields: frozenset[str] = frozenset()


def _run(status: WorkflowStatus) -> Callable[[Data, datetime], r.Report]:
    def read(data: Data, at: datetime) -> r.Report:
        workflow_id = _text(data, "workflow_id")
        if status == WorkflowStatus.COMPLETED:
            return r.RunReport(at=at, workflow_id=workflow_id, status=status, result=_object(data, "result"))
        if status == WorkflowStatus.FAILED:
            stored = WorkflowStatus.TIMEOUT if data.get("status") == "timeout" else status
            return r.RunReport(at=at, workflow_id=workflow_id, status=stored, error=_text(data, "error", ""))
        if status == WorkflowStatus.CANCELLED:
            return r.RunReport(at=at, workflow_id=workflow_id, status=status, error=_text(data, "reason", ""))
        return r.RunReport(
            at=at,
            workflow_id=workflow_id,
            status=status,
            name=_text(data, "name", ""),
            adapter=_text(data, "adapter", ""),
            prompt=_text(data, "prompt", ""),
            params=_object(data, "params"),
            pool_id=_optional_text(data, "pool_id"),
            stages=_stages(data),
        )

    return read


def _stage(status: StageStatus) -> Callable[[Data, datetime], r.Report]:
    def read(data: Data, at: datetime) -> r.Report:
        return r.StageReport(
            at=at,
            workflow_id=_text(data, "workflow_id"),
            stage_name=_text(data, "stage_name"),
            status=status,
            worker_id=_optional_text(data, "worker_id") if status == StageStatus.RUNNING else None,
            result=_object(data, "result") if status == StageStatus.COMPLETED else None,
            error=_text(data, "error", "") if status == StageStatus.FAILED else "",
        )

    return read


def _worker(*, is_registration: bool) -> Callable[[Data, datetime], r.Report]:
    def read(data: Data, at: datetime) -> r.Report:
        return r.WorkerReport(
            at=at,
            worker_id=_text(data, "worker_id"),
            status=_text(data, "status", *(["idle"] if is_registration else [])),
            pool_id=_optional_text(data, "pool_id"),
            is_registration=is_registration,
        )

    return read


def _pool(status: PoolStatus, *, is_new: bool = False) -> Callable[[Data, datetime], r.Report]:
    return lambda data, at: r.PoolReport(at=at, pool_id=_text(data, "pool_id"), status=status, is_new=is_new)


def _metrics(data: Data, at: datetime) -> r.Report:
    counters = _object(data, "status")
    if counters is None:
        raise InvalidEvent("data.status", "expected an object with the counters of the pool")
    return r.PoolMetricsReport(at=at, pool_id=_text(data, "pool_id"), counters=counters)


_NEW_RUN: Final = frozenset({"name", "adapter", "prompt", "params", "pool_id", "stages"})

_SHAPES: Final[Mapping[str, _Shape]] = {
    "workflow.created": _Shape("workflow.created", "workflow_id", _run(WorkflowStatus.PENDING)),
    "workflow.started": _Shape("workflow.started", "workflow_id", _run(WorkflowStatus.RUNNING), _NEW_RUN),
    "workflow.completed": _Shape("workflow.completed", "workflow_id", _run(WorkflowStatus.COMPLETED)),
    "workflow.failed": _Shape("workflow.failed", "workflow_id", _run(WorkflowStatus.FAILED)),
    "workflow.cancelled": _Shape("workflow.cancelled", "workflow_id", _run(WorkflowStatus.CANCELLED)),
    "workflow.stage_queued": _Shape(
        "workflow.stages_queued", "workflow_id", _stage(StageStatus.QUEUED), frozenset({"stage_name"})
    ),
    "workflow.stage_started": _Shape("workflow.stage_started", "workflow_id", _stage(StageStatus.RUNNING)),
    "workflow.stage_completed": _Shape("workflow.stage_completed", "workflow_id", _stage(StageStatus.COMPLETED)),
    "workflow.stage_failed": _Shape("workflow.stage_failed", "workflow_id", _stage(StageStatus.FAILED)),
    "workflow.stage_skipped": _Shape("workflow.stage_status_changed", "workflow_id", _stage(StageStatus.SKIPPED)),
    "worker.added": _Shape("worker.added", "worker_id", _worker(is_registration=True)),
    "worker.status_changed": _Shape("worker.status_changed", "worker_id", _worker(is_registration=False)),
    "worker.removed": _Shape(
        "worker.removed", "worker_id", lambda data, at: r.WorkerRemoval(at=at, worker_id=_text(data, "worker_id"))
    ),
    "pool.created": _Shape("pool.created", "pool_id", _pool(PoolStatus.ACTIVE, is_new=True)),
    "pool.drained": _Shape("pool.drained", "pool_id", _pool(PoolStatus.DRAINING)),
    "pool.reopened": _Shape("pool.reopened", "pool_id", _pool(PoolStatus.ACTIVE)),
    "pool.closed": _Shape("pool.closed", "pool_id", _pool(PoolStatus.CLOSED)),
    "pool.status_changed": _Shape("pool.status_changed", "pool_id", _metrics),
}

REPORTABLE: Final = tuple(_SHAPES)
"""The events that change state. Others, with names that the server does not use itself, change none."""


def _text(data: Data, field: str, *default: str) -> str:
    value = data.get(field)
    if value is None and default:
        return default[0]
    if not isinstance(value, str):
        raise InvalidEvent(f"data.{field}", "expected text")
    return value


def _optional_text(data: Data, field: str) -> str | None:
    return None if data.get(field) is None else _text(data, field)


def _object(data: Data, field: str) -> Mapping[str, Any] | None:
    value = data.get(field)
    if value is not None and not isinstance(value, dict):
        raise InvalidEvent(f"data.{field}", "expected an object")
    return value


def _stages(data: Data) -> tuple[r.ReportedStage, ...]:
    stages = data.get("stages")
    if stages is None:
        return ()
    if not isinstance(stages, list):
        raise InvalidEvent("data.stages", "expected an array of names, or of objects with `stage_name`")
    read = []
    for number, stage in enumerate(stages):
        if isinstance(stage, str):
            read.append(r.ReportedStage(name=stage))
        elif isinstance(stage, dict) and isinstance(stage.get("stage_name"), str):
            given = {key: stage[key] for key in ("step", "last_attempt") if stage.get(key) is not None}
            read.append(r.ReportedStage(name=stage["stage_name"], **given))
        else:
            raise InvalidEvent(f"data.stages[{number}]", "expected a name, or an object with `stage_name`")
    return tuple(read)
