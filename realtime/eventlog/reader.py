"""Read events of the log, in order and without gaps."""

from __future__ import annotations

from django.db.models import Max, QuerySet

from realtime.models import Event, EventRoom, Log
from realtime.protocol.channels import GLOBAL
from realtime.protocol.messages import EventRecord
from realtime.protocol.requests import MAX_SEQ

_RECORD_FIELDS = ("seq", "message_id", "name", "timestamp", "data")


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


def read_events(room: str, *, epoch: str, after: int, through: int, limit: int) -> list[EventRecord]:
    """Return the first `limit` events of `room` above `after` up to `through`, in order and without gaps.

    Raises:
        PositionOutOfRange: if some of them may be pruned, or the epoch of the log is no longer `epoch`.
    """
    prefix = "" if room == GLOBAL else "event__"
    rows = _in_room(room, after, through).values_list(*(prefix + field for field in _RECORD_FIELDS))
    found = list(rows[:limit])
    _check_complete(epoch=epoch, after=after, through=through)
    return [EventRecord(seq, str(message_id), *rest) for seq, message_id, *rest in found]


def read_events_with_rooms(*, epoch: str, after: int, limit: int) -> list[tuple[EventRecord, list[str]]]:
    """Return the first `limit` events above `after`, in order and without gaps, with their rooms besides `global`.

    Raises:
        PositionOutOfRange: if some of them may be pruned, or the epoch of the log is no longer `epoch`.
    """
    found = list(_in_room(GLOBAL, after, MAX_SEQ).values_list(*_RECORD_FIELDS)[:limit])
    rooms: dict[int, list[str]] = {seq: [] for seq, *_ in found}
    if found:
        room_rows = EventRoom.objects.filter(event__gt=after, event__lte=found[-1][0]).values_list("event", "room")
        for seq, room in room_rows:
            rooms[seq].append(room)
    _check_complete(epoch=epoch, after=after, through=MAX_SEQ)
    return [(EventRecord(seq, str(message_id), *rest), rooms[seq]) for seq, message_id, *rest in found]


def _check_complete(*, epoch: str, after: int, through: int) -> None:
    """Check that the preceding read was complete: events that are not pruned now were not pruned during the read."""
    found = Log.objects.filter(pk=1).values_list("epoch", "trimmed_seq").first()
    found_epoch, trimmed_seq = found or ("", 0)
    if found_epoch != epoch or after < min(trimmed_seq, through):
        raise PositionOutOfRange(after, trimmed_seq)


def _in_room(room: str, after: int, through: int) -> QuerySet[Event] | QuerySet[EventRoom]:
    if room == GLOBAL:
        return Event.objects.filter(seq__gt=after, seq__lte=through).order_by("seq")
    return EventRoom.objects.filter(room=room, event__gt=after, event__lte=through).order_by("event_id")
