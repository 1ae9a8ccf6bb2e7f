"""The event log: every announced change in commit order, and how it is written, read and pruned.

`seq` is commit order because all rows of a transaction are inserted as its last statements under a lock that lasts
until the commit: on Postgres an advisory lock; on SQLite the write lock that every transaction that changes anything
has. (A plain auto-increment column is not commit order: a transaction that inserted first may commit last, and a
reader that asks for `seq > last` in between never sees its rows.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from django.db import connection
from django.db.models import Model

from realtime.eventlog.position import current_position
from realtime.models import Event, EventRoom, Log
from realtime.protocol.channels import GLOBAL
from realtime.protocol.messages import EventRecord

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


def append_events(events: list[NewEvent]) -> list[Delivery]:
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
    return epoch or current_position().epoch, last_seqs
