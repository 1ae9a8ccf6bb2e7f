"""Turn changes into events: receive the signals of `orchestration`, write the events to the log and publish them.

A receiver runs inside the transaction of the change. The last statements of the transaction write its event to the log
(`orchestration.db.before_commit`). The event is published after the commit (`realtime.broadcast.publisher`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.conf import settings
from msgspec import UNSET
from msgspec.structs import asdict

from orchestration.db import before_commit
from orchestration.db.stop_hooks import call_at_stop
from orchestration.reporter import current_reporter
from realtime.broadcast.publisher import publisher
from realtime.eventlog.append import NewEvent, append_events
from realtime.eventlog.epoch import record_clean_stop
from realtime.events.recorder import Recorded, RecordedEvent, current_record
from realtime.events.truncation import truncate_json
from realtime.events.types import EVENT_TYPES, EventData
from realtime.protocol.channels import GLOBAL


@dataclass(frozen=True, slots=True)
class Announcement:
    """One event of the current transaction, not yet in the log.

    Attributes:
        rooms: The channels it belongs to besides `global`.
        on_written: Called inside the transaction with the event's `seq`, as soon as the log has assigned it.
        recorded: Where to record it after the commit, if the caller asked for that.
    """

    name: str
    timestamp: datetime
    data: EventData | Mapping[str, Any]
    rooms: tuple[str, ...]
    on_written: Callable[[int], None] | None = None
    recorded: Recorded | None = None


def announce(data: EventData) -> None:
    """Announce an event if the current transaction commits."""
    if data.reported_by is UNSET and (reporter := current_reporter()):
        data.reported_by = reporter
    content: EventData | dict[str, Any] = data
    if (recorded := current_record()) is not None:
        recorded.announced += 1
        if recorded.extra and recorded.extra_event == data.event:
            content = {**recorded.extra, **{key: value for key, value in asdict(data).items() if value is not UNSET}}
    before_commit.collect(Announcement(data.event, data.timestamp, content, data.rooms(), recorded=recorded))


def announce_as_given(
    name: str,
    *,
    data: Mapping[str, Any],
    rooms: tuple[str, ...],
    timestamp: datetime,
    on_written: Callable[[int], None] | None = None,
) -> None:
    """Announce an event without a change of state, as `emit_test_event` does."""
    if reporter := current_reporter():
        data = {**data, "reported_by": reporter}
    if (recorded := current_record()) is not None:
        recorded.announced += 1
    before_commit.collect(Announcement(name, timestamp, data, rooms, on_written, recorded))


def append_collected(announcements: list[Announcement]) -> Callable[[], None]:
    """Append the announcements of a transaction to the log; return the function that publishes them.

    Raises:
        TypeError: if data cannot be encoded as JSON.
        ValueError: if data is too large even when truncated.
        django.db.Error: if the log cannot be written.
    """
    max_bytes = settings.MAHAVISHNU_LIMITS.max_event_data_bytes
    deliveries = append_events(
        [
            NewEvent(
                name=item.name,
                timestamp=item.timestamp,
                data=truncate_json(item.data, max_bytes=max_bytes),
                rooms=item.rooms,
            )
            for item in announcements
        ]
    )
    # Every event is in `global`, once.
    seqs = (delivery.event.seq for delivery in deliveries if delivery.room == GLOBAL)
    recorded: list[tuple[Recorded, RecordedEvent]] = []
    for item, seq in zip(announcements, seqs, strict=True):
        if item.on_written is not None:
            item.on_written(seq)
        if item.recorded is not None:
            item.recorded.written.append(RecordedEvent(item.name, seq))
            item.recorded.epoch = deliveries[0].epoch
            recorded.append((item.recorded, item.recorded.written[-1]))

    # Not a `partial`: Django's log line about a failed hook needs a `__qualname__`.
    def publish_after_commit() -> None:
        for record, event in recorded:
            record.events.append(event)
        publisher().publish(deliveries)

    return publish_after_commit


def _receiver(event_type: type[EventData]) -> Callable[..., None]:
    def receive(**arguments: Any) -> None:
        announce(event_type.from_signal(**arguments))

    return receive


def connect() -> None:
    """Connect a receiver to the signal of every event type, and append announced events before each commit."""
    before_commit.install(Announcement, append_collected, phase=before_commit.Phase.LOG)
    call_at_stop(record_clean_stop)
    for name, event_type in EVENT_TYPES.items():
        event_type.signal.connect(_receiver(event_type), weak=False, dispatch_uid=f"{__name__}:{name}")
