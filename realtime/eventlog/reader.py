"""Read events of the log, in order and without gaps. A read is bounded in events and in bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import Max, QuerySet

from realtime.models import Event, EventRoom, Log
from realtime.protocol.channels import GLOBAL, SUMMARY, created_by
from realtime.protocol.messages import EventRecord
from realtime.protocol.payload import decode_object, size_in_bytes
from realtime.protocol.requests import MAX_SEQ
from realtime.protocol.summary import LEFT_OUT

EVENT_OVERHEAD_BYTES = 512
"""What an event counts besides its data. The other fields of its message take less."""


@dataclass(frozen=True, slots=True)
class EventBatch:
    """The events of one read.

    Attributes:
        events: The events, in order and without gaps.
        is_last: Whether the read reached its end: no further event lies up to `through`.
    """

    events: list[EventRecord]
    is_last: bool


class PositionOutOfRange(Exception):
    """Some of the events to read are pruned, or the log was replaced.

    Attributes:
        after: Position to read from.
        trimmed_seq: Position up to which events are pruned.
    """

    def __init__(self, after: int, trimmed_seq: int) -> None:
        super().__init__(after, trimmed_seq)
        self.after = after
        self.trimmed_seq = trimmed_seq

    def __str__(self) -> str:
        return f"Cannot read events after {self.after}: the log was replaced, or is pruned up to {self.trimmed_seq}"


def newest_seq_by_room(*, after: int) -> dict[str, int]:
    """Return the newest position in each room that has events above `after`."""
    return dict(EventRoom.objects.filter(event__gt=after).values_list("room").annotate(Max("event")).order_by())


def count_events(room: str, *, after: int, through: int, limit: int) -> int:
    """Count the events of `room` above `after` up to `through`. Counting stops at `limit`."""
    return _in_room(room, after, through)[:limit].count()


def is_complete(room: str, *, after: int, trimmed_seq: int) -> bool:
    """Return whether the log has every event of `room` above `after`, although it is pruned up to `trimmed_seq`.

    It has, if the oldest one that is left follows `after` directly. If none is left, that is not known. Position 0 asks
    for the history of a resource, which begins with the event that created it.
    """
    if after >= trimmed_seq:
        return True
    if room in _WITHOUT_ROWS:
        return False
    oldest = (
        EventRoom.objects.filter(room=room, event__gt=after)
        .order_by("event_id")
        .values_list("event_id", "previous_seq", "event__name")
        .first()
    )
    if oldest is None:
        return False
    seq, previous_seq, name = oldest
    # A replaced log still has the rows of the one before, up to its `trimmed_seq`.
    return seq > trimmed_seq and (
        (previous_seq is not None and previous_seq <= after)
        or (after == 0 and name == created_by(room) and not _is_test_event(seq))
    )


def _is_test_event(seq: int) -> bool:
    """Return whether a person sent an event to try out a channel: nothing has happened to the resource."""
    data = Event.objects.filter(pk=seq).values_list("data", flat=True).first()
    return data is not None and decode_object(data).get("test") is True


def read_events(room: str, *, epoch: str, after: int, through: int, limit: int, max_bytes: int) -> EventBatch:
    """Read the first events of `room` above `after` up to `through`, in order and without gaps.

    Args:
        room: The room.
        epoch: The log to read.
        after: Position to read from.
        through: Position to read up to.
        limit: Maximum number of events.
        max_bytes: Maximum size of their data, with `EVENT_OVERHEAD_BYTES` for each. The first event may be larger.

    Raises:
        PositionOutOfRange: if some of them may be pruned, or the epoch of the log is no longer `epoch`.
    """
    batch = _read_range(room, after, through, limit, max_bytes)
    _check_complete(room, epoch=epoch, after=after, through=through)
    return batch


def read_events_with_rooms(
    *, epoch: str, after: int, limit: int, max_bytes: int
) -> tuple[EventBatch, dict[int, list[str]]]:
    """Read the first events above `after`, in order and without gaps; return also their rooms besides `global`.

    The bounds are those of `read_events`.

    Raises:
        PositionOutOfRange: if some of them may be pruned, or the epoch of the log is no longer `epoch`.
    """
    batch = _read_range(GLOBAL, after, MAX_SEQ, limit, max_bytes)
    rooms: dict[int, list[str]] = {event.seq: [] for event in batch.events}
    if batch.events:
        through = batch.events[-1].seq
        room_rows = EventRoom.objects.filter(event__gt=after, event__lte=through).values_list("event", "room")
        for seq, room in room_rows:
            rooms[seq].append(room)
    _check_complete(GLOBAL, epoch=epoch, after=after, through=MAX_SEQ)
    return batch, rooms


def read_listed(seqs: Sequence[int], *, newest_first: bool, max_bytes: int) -> list[EventRecord]:
    """Read the events at these positions, from the newest or from the oldest one on.

    Args:
        seqs: Positions of events that are not pruned.
        newest_first: Whether to begin with the newest one.
        max_bytes: As for `read_events`: the events beyond it are left out.
    """
    if not seqs:
        return []
    order = f"seq {'DESC' if newest_first else 'ASC'}"
    rows = f"realtime_event AS event WHERE seq IN ({', '.join(map(str, seqs))})"
    return _read_batch(_Source(rows, order, rows), {"limit": len(seqs), "max_bytes": max_bytes}).events


def _read_range(room: str, after: int, through: int, limit: int, max_bytes: int) -> EventBatch:
    values = {"after": after, "through": through, "limit": limit, "max_bytes": max_bytes}
    source = _WITHOUT_ROWS.get(room)
    return _read_batch(_OF_ROOM, {**values, "room": room}) if source is None else _read_batch(source, values)


def _read_batch(source: _Source, values: dict[str, Any]) -> EventBatch:
    read_rows = _rows_of_postgres if connection.vendor == "postgresql" else _rows_of_sqlite
    events: list[EventRecord] = []
    for size_bytes, seq, message_id, *rest in read_rows(source, values):
        if events and size_bytes > values["max_bytes"]:
            return EventBatch(events, is_last=False)
        events.append(EventRecord(seq, str(message_id), *rest))
    return EventBatch(events, is_last=len(events) < values["limit"])


class _Source(NamedTuple):
    """Where a read finds its rows.

    Attributes:
        rows: SQL of the tables and the condition: what follows `FROM`.
        order: The order of the rows, which an index has.
        rows_of_postgres: As `rows`, for Postgres.
    """

    rows: str
    order: str
    rows_of_postgres: str


_Rows = Iterable[tuple[Any, ...]]
"""Rows of the log, in order: the total size up to the row, and the fields of the event."""

# Django would need more time to write this SQL than the database to run it.
_FIELDS = "event.seq, message_id, name, timestamp, data"
_RANGE = "{seq} > %(after)s AND {seq} <= %(through)s"
_GLOBAL_ROWS = f"realtime_event AS event WHERE {_RANGE.format(seq='event.seq')}"
_ROOM_ROWS = (
    "realtime_eventroom AS member JOIN realtime_event AS event ON event.seq = member.seq "
    f"WHERE room = %(room)s AND {_RANGE.format(seq='member.seq')}"
)
_LEFT_OUT = ", ".join(f"'{name}'" for name in LEFT_OUT)
_SUMMARY_ROWS = f"{_GLOBAL_ROWS} AND name NOT IN ({_LEFT_OUT})"
_WITHOUT_ROWS = {
    GLOBAL: _Source(_GLOBAL_ROWS, "event.seq", _GLOBAL_ROWS),
    SUMMARY: _Source(_SUMMARY_ROWS, "event.seq", _SUMMARY_ROWS),
}
"""Where to read the channels that the rows of `EventRoom` do not list."""
# Postgres does not see by itself that both columns have the same bounds.
_OF_ROOM = _Source(_ROOM_ROWS, "member.seq", f"{_ROOM_ROWS} AND {_RANGE.format(seq='event.seq')}")


def _rows_of_sqlite(source: _Source, values: dict[str, Any]) -> _Rows:
    # SQLite reads a row when it is fetched, so the rows beyond the bound are not read. (Its LENGTH would read them.)
    operations: Any = connection.ops  # Its type has no methods of one database.
    size_bytes = 0
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {_FIELDS} FROM {source.rows} ORDER BY {source.order} LIMIT %(limit)s", values)
        for found, message_id, name, timestamp, data in cursor:
            size_bytes += size_in_bytes(data) + EVENT_OVERHEAD_BYTES
            yield (
                size_bytes,
                found,
                UUID(message_id),
                name,
                operations.convert_datetimefield_value(timestamp, None, connection),
                data,
            )


_SIZE = f"(OCTET_LENGTH(data) + {EVENT_OVERHEAD_BYTES})"
_BOUNDED_SQL = f"""
SELECT total_bytes, seq, message_id, name, timestamp,
    CASE WHEN total_bytes <= %(max_bytes)s OR total_bytes = size_bytes THEN data END
FROM (
    SELECT {_FIELDS}, {_SIZE} AS size_bytes,
        SUM({_SIZE}) OVER (ORDER BY {{order}} ROWS UNBOUNDED PRECEDING) AS total_bytes
    FROM {{rows}}
    ORDER BY {{order}}
    LIMIT %(limit)s
) AS bounded
ORDER BY total_bytes
"""


def _rows_of_postgres(source: _Source, values: dict[str, Any]) -> _Rows:
    # libpq holds the whole result of a query, so the data beyond the bound is not sent. OCTET_LENGTH does not read it.
    with connection.cursor() as cursor:
        cursor.execute(_BOUNDED_SQL.format(rows=source.rows_of_postgres, order=source.order), values)
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _check_complete(room: str, *, epoch: str, after: int, through: int) -> None:
    """Check that the preceding read was complete: events that are not pruned now were not pruned during the read."""
    found = Log.objects.filter(pk=1).values_list("epoch", "trimmed_seq").first()
    found_epoch, trimmed_seq = found or ("", 0)
    is_pruned = after < through and not is_complete(room, after=after, trimmed_seq=trimmed_seq)
    if found_epoch != epoch or is_pruned:
        raise PositionOutOfRange(after, trimmed_seq)


def _in_room(room: str, after: int, through: int) -> QuerySet[Event] | QuerySet[EventRoom]:
    if room in _WITHOUT_ROWS:
        events = Event.objects.filter(seq__gt=after, seq__lte=through).order_by("seq")
        return events.exclude(name__in=LEFT_OUT) if room == SUMMARY else events
    return EventRoom.objects.filter(room=room, event__gt=after, event__lte=through).order_by("event_id")
