"""The event log: every announced change in commit order, and how it is written, read and pruned.

`seq` is commit order because all rows of a transaction are inserted as its last statements under a lock that lasts
until the commit: on Postgres an advisory lock; on SQLite the write lock that every transaction that changes anything
has. (A plain auto-increment column is not commit order: a transaction that inserted first may commit last, and a
reader that asks for `seq > last` in between never sees its rows.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import takewhile
from typing import Any
from uuid import uuid4

from django.db import connection, transaction
from django.db.models import Max, Model, QuerySet, Subquery
from django.db.models.functions import Coalesce, Greatest

from realtime.models import Event, EventRoom, Log
from realtime.protocol.channels import GLOBAL
from realtime.protocol.messages import EventRecord
from realtime.protocol.requests import MAX_SEQ

# Any constant that no other user of the same database takes: the ASCII codes of "mahalog".
_APPEND_LOCK = 0x6D6168616C6F67
# Postgres ends the session of a writer that stops, or loses its network, while it holds the lock: it must not hold up
# every other writer until TCP notices.
_MAX_SILENCE_UNDER_LOCK = "5s"
# Constraints that wait for the commit take row locks then, and that must not happen under the append lock: another
# transaction may hold those rows and wait for this lock. So they are checked before.
_LOCK_ON_POSTGRES = f"""
    SET CONSTRAINTS ALL IMMEDIATE;
    SET LOCAL idle_in_transaction_session_timeout = '{_MAX_SILENCE_UNDER_LOCK}';
    SELECT pg_advisory_xact_lock({_APPEND_LOCK})
"""
# SQLite joins at most 500 SELECTs.
_ROOMS_PER_QUERY = 200
# SQLite takes 32,766 values in a statement, Postgres 65,535.
_ROWS_PER_INSERT = 1000
_PRUNE_CHUNK_EVENTS = 1000
_PRUNE_MAX_CHUNKS = 1000
_RECORD_FIELDS = ("seq", "message_id", "name", "timestamp", "data")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event that is about to be written.

    Attributes:
        data: As `protocol.encode_data` made it.
        rooms: Where it is delivered besides `global`.
    """

    name: str
    timestamp: datetime
    data: str
    rooms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event in one room.

    Attributes:
        epoch: The log it is in.
        previous_seq: The event before it in this room: whoever has that one has missed nothing. Where there is none,
            or it is pruned, the position up to which the log is pruned.
    """

    epoch: str
    room: str
    previous_seq: int
    event: EventRecord


@dataclass(frozen=True, slots=True)
class Position:
    """Where the log stands.

    Attributes:
        seq: Its newest event, 0 while there was none.
        epoch: Which log this is.
        trimmed_seq: Events up to this position are pruned.
    """

    seq: int
    epoch: str
    trimmed_seq: int


class EventsGone(Exception):
    """Events that were asked for are pruned, or the log is another one by now.

    Attributes:
        after: The position that was read from.
        trimmed_seq: The position up to which events are pruned.
    """

    def __init__(self, after: int, trimmed_seq: int) -> None:
        super().__init__(after, trimmed_seq)
        self.after = after
        self.trimmed_seq = trimmed_seq

    def __str__(self) -> str:
        return f"Asked for events after {self.after} of a log that was replaced, or is pruned up to {self.trimmed_seq}"


def append(events: list[NewEvent]) -> list[Delivery]:
    """Write events as the last statements of the current transaction, and say what is delivered where.

    The cost does not depend on how many events or rooms are stored.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_LOCK_ON_POSTGRES)
    epoch, last_seqs = _epoch_and_last_seqs(sorted({room for event in events for room in event.rooms}))
    message_ids = [uuid4() for _ in events]
    rows = [
        (message_id, event.name, event.data, event.timestamp)
        for message_id, event in zip(message_ids, events, strict=True)
    ]
    # Under the lock there is no other writer: the numbers of one statement are in the order of its rows.
    seqs = sorted(_insert(Event, ("message_id", "name", "data", "timestamp"), rows, returning="seq"))
    of_rooms = [(room, seq) for seq, event in zip(seqs, events, strict=True) for room in event.rooms]
    _insert(EventRoom, ("room", "event"), of_rooms)
    deliveries = []
    for seq, message_id, event in zip(seqs, message_ids, events, strict=True):
        record = EventRecord(seq, str(message_id), event.name, event.timestamp, event.data)
        for room in (*event.rooms, GLOBAL):
            deliveries.append(Delivery(epoch, room, last_seqs[room], record))
            last_seqs[room] = seq
    return deliveries


def _insert(
    model: type[Model], names: tuple[str, ...], rows: Sequence[tuple[object, ...]], *, returning: str = ""
) -> list[int]:
    """Store rows, and return a column of each; `bulk_create()` takes three times as long for the two that are usual."""
    quote = connection.ops.quote_name
    fields: list[Any] = [model._meta.get_field(name) for name in names]
    into = f"{quote(model._meta.db_table)} ({', '.join(quote(field.column) for field in fields)})"
    places = f"({', '.join(['%s'] * len(fields))})"
    end = f" RETURNING {quote(returning)}" if returning else ""
    returned: list[int] = []
    with connection.cursor() as cursor:
        for first in range(0, len(rows), _ROWS_PER_INSERT):
            part = rows[first : first + _ROWS_PER_INSERT]
            values = [
                field.get_db_prep_save(value, connection)
                for row in part
                for field, value in zip(fields, row, strict=True)
            ]
            cursor.execute(f"INSERT INTO {into} VALUES {', '.join([places] * len(part))}{end}", values)
            returned += (row[0] for row in cursor.fetchall()) if returning else ()
    return returned


def _epoch_and_last_seqs(rooms: list[str]) -> tuple[str, dict[str, int]]:
    """Which log this is, and the newest event of each room and of `global`, each found by one step in an index.

    What is pruned has no newest event: there it is the position up to which the log is pruned.
    """
    events, event_rooms, logs = (connection.ops.quote_name(model._meta.db_table) for model in (Event, EventRoom, Log))
    found: list[int | None] = []
    with connection.cursor() as cursor:
        for first in range(0, max(len(rooms), 1), _ROOMS_PER_QUERY):
            asked = rooms[first : first + _ROOMS_PER_QUERY]
            query = f"SELECT MAX(seq), 0, '' FROM {event_rooms} WHERE room = %s UNION ALL " * len(asked)
            of_log = ", ".join(f"(SELECT {column} FROM {logs})" for column in ("trimmed_seq", "epoch"))
            cursor.execute(f"{query}SELECT (SELECT MAX(seq) FROM {events}), {of_log}", asked)
            *of_rooms, (of_all, trimmed_seq, epoch) = cursor.fetchall()
            found += (seq for seq, _, _ in of_rooms)
    last_seqs = {room: seq or trimmed_seq or 0 for room, seq in zip((*rooms, GLOBAL), (*found, of_all), strict=True)}
    return epoch or position().epoch, last_seqs


def position() -> Position:
    """Where the log stands, in one query."""
    newest = Subquery(Event.objects.order_by("-seq").values("seq")[:1])
    log = Log.objects.annotate(seq=Greatest(Coalesce(newest, 0), "trimmed_seq")).filter(pk=1)
    found = log.values_list("seq", "epoch", "trimmed_seq").first()
    if found is None:
        Log.objects.get_or_create(pk=1)
        found = log.values_list("seq", "epoch", "trimmed_seq").get()
    return Position(*found)


def renew_epoch() -> str:
    """Give the log a new name, so that every client starts over. Returns it."""
    with transaction.atomic():
        newest = position().seq
        Log.objects.filter(pk=1).delete()
        return Log.objects.create(pk=1, trimmed_seq=newest).epoch


def newest_per_room(*, after: int) -> dict[str, int]:
    """Each room with an event above `after`, and its newest."""
    return dict(EventRoom.objects.filter(event__gt=after).values_list("room").annotate(Max("event")).order_by())


def count(room: str, *, after: int, through: int, most: int) -> int:
    """How many events `room` has above `after` up to `through`; counting stops at `most`."""
    return _in_room(room, after, through)[:most].count()


def read(room: str, *, epoch: str, after: int, through: int, most: int) -> list[EventRecord]:
    """The first `most` events of `room` above `after` up to `through`, in order and with none left out.

    Raises:
        EventsGone: if some of them may be pruned, or the log is not `epoch` any more.
    """
    prefix = "" if room == GLOBAL else "event__"
    rows = _in_room(room, after, through).values_list(*(prefix + field for field in _RECORD_FIELDS))
    found = list(rows[:most])
    _check_complete(epoch=epoch, after=after, through=through)
    return [EventRecord(seq, str(message_id), *rest) for seq, message_id, *rest in found]


def read_with_rooms(*, epoch: str, after: int, most: int) -> list[tuple[EventRecord, list[str]]]:
    """The first `most` events above `after`, in order and with none left out, each with its rooms besides `global`.

    Raises:
        EventsGone: as `read` does.
    """
    found = list(_in_room(GLOBAL, after, MAX_SEQ).values_list(*_RECORD_FIELDS)[:most])
    rooms: dict[int, list[str]] = {seq: [] for seq, *_ in found}
    if found:
        of_each = EventRoom.objects.filter(event__gt=after, event__lte=found[-1][0]).values_list("event", "room")
        for seq, room in of_each:
            rooms[seq].append(room)
    _check_complete(epoch=epoch, after=after, through=MAX_SEQ)
    return [(EventRecord(seq, str(message_id), *rest), rooms[seq]) for seq, message_id, *rest in found]


def _check_complete(*, epoch: str, after: int, through: int) -> None:
    """Asked after reading: what is not pruned now was not pruned then."""
    found = Log.objects.filter(pk=1).values_list("epoch", "trimmed_seq").first()
    found_epoch, trimmed_seq = found or ("", 0)
    if found_epoch != epoch or after < min(trimmed_seq, through):
        raise EventsGone(after, trimmed_seq)


def _in_room(room: str, after: int, through: int) -> QuerySet[Event] | QuerySet[EventRoom]:
    if room == GLOBAL:
        return Event.objects.filter(seq__gt=after, seq__lte=through).order_by("seq")
    return EventRoom.objects.filter(room=room, event__gt=after, event__lte=through).order_by("event_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What is kept.

    Attributes:
        max_events: At most this many.
        max_age: None older than this.
        min_age: None younger than this is pruned, whatever their number: a relay heals from the log.
    """

    max_events: int
    max_age: timedelta
    min_age: timedelta


def prune(retention: Retention, *, at: datetime) -> int:
    """Delete what need not be kept, oldest first, in transactions of at most 1000 events. Returns how many."""
    pruned = 0
    for _ in range(_PRUNE_MAX_CHUNKS):
        chunk = _prune_chunk(retention, at)
        pruned += chunk
        if chunk < _PRUNE_CHUNK_EVENTS:
            break
    return pruned


def _prune_chunk(retention: Retention, at: datetime) -> int:
    newest = position().seq
    oldest = list(Event.objects.order_by("seq").values_list("seq", "timestamp")[:_PRUNE_CHUNK_EVENTS])
    too_many = newest - retention.max_events
    kept_from, may_go = at - retention.max_age, at - retention.min_age
    # Only an unbroken run from the oldest: `trimmed_seq` says that all up to it is pruned.

    def goes(row: tuple[int, datetime]) -> bool:
        # A moment that is yet to come (a clock was wrong) says nothing of an event's age.
        return row[1] > at or (row[1] <= may_go and (row[0] <= too_many or row[1] < kept_from))

    gone = list(takewhile(goes, oldest))
    # Such an event goes with a later one, which says that it is old, or because there are too many.
    while gone and gone[-1][1] > at and gone[-1][0] > too_many:
        gone.pop()
    if not gone:
        return 0
    through = gone[-1][0]
    with transaction.atomic():
        Log.objects.filter(pk=1, trimmed_seq__lt=through).update(trimmed_seq=through)
        EventRoom.objects.filter(event__lte=through)._raw_delete("default")
        Event.objects.filter(seq__lte=through)._raw_delete("default")
    return len(gone)
