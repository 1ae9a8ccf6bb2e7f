"""Append events to the log, so that `seq` is commit order.

All events of a transaction are inserted by its last statements, under a lock that is held until the commit. On Postgres
it is an advisory lock. On SQLite it is the write lock, which every writing transaction holds.

A plain auto-increment column does not follow commit order. A transaction that inserted first may commit last. A reader
that queries `seq > last` in between never gets its rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import uuid4

from django.db import connection

from orchestration.db.bulk import insert_values
from realtime.eventlog.epoch import continue_epoch, is_continued
from realtime.eventlog.position import current_position
from realtime.models import Event, EventRoom, Log
from realtime.protocol.channels import GLOBAL
from realtime.protocol.messages import EventRecord

# The key must be unique in the database: the ASCII codes of "mahalog".
_APPEND_LOCK = 0x6D6168616C6F67
# Postgres ends the session of a writer that stops or loses its network while it holds the lock. Otherwise every other
# writer would be blocked until TCP detects the loss.
_IDLE_TIMEOUT_UNDER_LOCK = "5s"
# Deferred constraints are checked before the append lock is taken. Checking them takes row locks, and another
# transaction may hold those rows while it waits for the append lock: a deadlock.
_LOCK_ON_POSTGRES = f"""
    SET CONSTRAINTS ALL IMMEDIATE;
    SET LOCAL idle_in_transaction_session_timeout = '{_IDLE_TIMEOUT_UNDER_LOCK}';
    SELECT pg_advisory_xact_lock({_APPEND_LOCK})
"""
# SQLite allows at most 500 SELECTs in one UNION.
_ROOMS_PER_QUERY = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """An event that is not in the log yet.

    Attributes:
        name: Name of the event, such as `workflow.started`.
        timestamp: When the change happened.
        data: JSON text made by `protocol.payload.encode_data`.
        rooms: The rooms that deliver it, besides `global`.
    """

    name: str
    timestamp: datetime
    data: str
    rooms: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event in one room.

    Attributes:
        epoch: The log that contains the event.
        bus_key: The log's key for messages between processes.
        room: The room that delivers it.
        previous_seq: Position of the previous event in this room. A client that has that event has missed nothing. If
            that event does not exist or is pruned, this is the position up to which the log is pruned.
        event: The event.
    """

    epoch: str
    bus_key: str
    room: str
    previous_seq: int
    event: EventRecord


def append_events(events: list[NewEvent]) -> list[Delivery]:
    """Insert events by the last statements of the current transaction, and return their deliveries in order.

    The cost does not depend on how many events or rooms are stored.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(_LOCK_ON_POSTGRES)
    epoch, bus_key, last_seqs = _log_names_and_last_seqs(sorted({room for event in events for room in event.rooms}))
    message_ids = [uuid4() for _ in events]
    rows = [
        (message_id, event.name, event.data, event.timestamp)
        for message_id, event in zip(message_ids, events, strict=True)
    ]
    # The lock excludes other writers, so the positions of one statement are in the order of its rows.
    columns = ("message_id", "name", "data", "timestamp")
    seqs = insert_values(Event, columns, rows, using=connection.alias, returns_keys=True)
    newest_seq = last_seqs[GLOBAL]
    records = []
    for seq, message_id, event in zip(seqs, message_ids, events, strict=True):
        record = EventRecord(seq, str(message_id), event.name, event.timestamp, event.data)
        for room in (*event.rooms, GLOBAL):
            records.append((room, record, last_seqs[room]))
            last_seqs[room] = seq
    room_rows = [(room, record.seq, previous) for room, record, previous in records if room != GLOBAL]
    insert_values(EventRoom, ("room", "event_id", "previous_seq"), room_rows, using=connection.alias)
    # Not before the insert: this transaction now holds the write lock in every mode.
    if not is_continued(epoch):
        position = continue_epoch(newest_seq=newest_seq)
        epoch, bus_key = position.epoch, position.bus_key
    return [Delivery(epoch, bus_key, room, previous, record) for room, record, previous in records]


def _log_names_and_last_seqs(rooms: list[str]) -> tuple[str, str, dict[str, int]]:
    """Return epoch, bus key, and the newest position in each room and in `global`. Each takes one index lookup.

    For a room without events it is the position up to which the log is pruned.
    """
    events, event_rooms, logs = (connection.ops.quote_name(model._meta.db_table) for model in (Event, EventRoom, Log))
    found: list[int | None] = []
    with connection.cursor() as cursor:
        for first in range(0, max(len(rooms), 1), _ROOMS_PER_QUERY):
            part = rooms[first : first + _ROOMS_PER_QUERY]
            query = f"SELECT MAX(seq), 0, '', '' FROM {event_rooms} WHERE room = %s UNION ALL " * len(part)
            log_columns = ", ".join(f"(SELECT {column} FROM {logs})" for column in ("trimmed_seq", "epoch", "bus_key"))
            cursor.execute(f"{query}SELECT (SELECT MAX(seq) FROM {events}), {log_columns}", part)
            *room_results, (newest, trimmed_seq, epoch, bus_key) = cursor.fetchall()
            found += (seq for seq, *_ in room_results)
    last_seqs = {room: seq or trimmed_seq or 0 for room, seq in zip((*rooms, GLOBAL), (*found, newest), strict=True)}
    if epoch is None:
        position = current_position()
        epoch, bus_key = position.epoch, position.bus_key
    return epoch, bus_key, last_seqs
