"""The event log on both databases: append, read, position and epoch."""

from __future__ import annotations

import gc
import itertools
import tracemalloc
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from realtime.eventlog.append import Delivery, NewEvent, append_events
from realtime.eventlog.epoch import renew_epoch
from realtime.eventlog.position import Position, current_position
from realtime.eventlog.reader import (
    EVENT_OVERHEAD_BYTES,
    EventBatch,
    PositionOutOfRange,
    count_events,
    newest_seq_by_room,
    read_events,
    read_events_with_rooms,
)
from realtime.eventlog.retention import Retention, prune_events
from realtime.models import Event, EventRoom, Log
from realtime.protocol.messages import EventRecord
from realtime.protocol.requests import MAX_SEQ
from tests.harness.query_plans import collect_statistics

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

AT = datetime(2026, 2, 10, 20, 0, tzinfo=UTC)
ALL = {"after": 0, "through": MAX_SEQ, "limit": 10_000, "max_bytes": 2**30}


def append(*rooms_of_each: Iterable[str]) -> list[Delivery]:
    """Append one event per argument, in those rooms, in one transaction."""
    events = [
        NewEvent(name="workflow.started", timestamp=AT, data=f'{{"number":{number}}}', rooms=tuple(rooms))
        for number, rooms in enumerate(rooms_of_each)
    ]
    with transaction.atomic():
        return append_events(events)


def seqs(deliveries: Iterable[Delivery], room: str = "global") -> list[int]:
    return [delivery.event.seq for delivery in deliveries if delivery.room == room]


def read(room: str, **bounds: int) -> list[EventRecord]:
    return read_batch(room, **bounds).events


def read_batch(room: str, **bounds: int) -> EventBatch:
    return read_events(room, epoch=current_position().epoch, **{**ALL, **bounds})


def prune(through: int) -> None:
    position = current_position()
    retention = Retention(max_events=position.seq - through, max_age=timedelta(days=1), min_age=timedelta(0))
    prune_events(retention, at=AT)


def test_append_delivers_to_the_rooms_and_global_with_the_previous_seq_of_each() -> None:
    start = current_position()
    deliveries = append(["workflow:a"], ["pool:p", "worker:w"], ["workflow:a"])
    first, second, third = seqs(deliveries)
    assert (start.seq < first, second, third) == (True, first + 1, first + 2)
    assert [(delivery.room, delivery.previous_seq, delivery.event.seq) for delivery in deliveries] == [
        ("workflow:a", start.trimmed_seq, first),
        ("global", start.seq, first),
        ("pool:p", start.trimmed_seq, second),
        ("worker:w", start.trimmed_seq, second),
        ("global", first, second),
        ("workflow:a", first, third),
        ("global", second, third),
    ]
    assert {delivery.epoch for delivery in deliveries} == {start.epoch}
    (after,) = {(d.room, d.previous_seq) for d in append(["pool:p"]) if d.room != "global"}
    assert after == ("pool:p", second)


def test_read_events_returns_appended_events_in_order_within_bounds() -> None:
    deliveries = append(["workflow:a"], ["workflow:b"], ["workflow:a", "workflow:b"], ["workflow:a"])
    in_all = [delivery.event for delivery in deliveries if delivery.room == "global"]
    first, second, third, fourth = in_all
    assert read("global") == in_all
    assert read("workflow:a") == [first, third, fourth]
    assert read("workflow:a", after=first.seq, through=third.seq) == [third]
    assert read("workflow:a", limit=2) == [first, third]
    assert read("workflow:b") == [second, third]
    assert read("workflow:c") == []
    assert third.data == '{"number":2}'
    assert (third.name, third.timestamp) == ("workflow.started", AT)
    counted = [count_events(room, after=0, through=MAX_SEQ, limit=3) for room in ("global", "workflow:a", "workflow:c")]
    assert counted == [3, 3, 0]
    assert newest_seq_by_room(after=first.seq) == {"workflow:a": fourth.seq, "workflow:b": third.seq}
    assert newest_seq_by_room(after=fourth.seq) == {}


def test_current_position_is_the_newest_committed_event() -> None:
    before = current_position()
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        append_events([NewEvent(name="workflow.started", timestamp=AT, data="{}", rooms=("workflow:a",))])
        raise ZeroDivisionError
    assert current_position() == before
    newest = seqs(append(["workflow:a"], []))[-1]
    assert current_position() == Position(seq=newest, epoch=before.epoch, trimmed_seq=before.trimmed_seq, bus_key="")
    assert list(Log.objects.values_list("epoch", flat=True)) == [before.epoch]


def test_append_splits_its_query_for_many_rooms() -> None:
    rooms = [f"workflow:{number}" for number in range(1203)]
    first, second = append(rooms), append(rooms)
    assert [(d.room, d.previous_seq) for d in second] == [(room, seqs(first)[0]) for room in [*rooms, "global"]]


def test_append_cost_is_independent_of_the_log_size() -> None:
    append(*[["workflow:a", f"workflow:{number}"] for number in range(100)])
    with_few = measure_append_cost()
    append(*[["workflow:a", f"workflow:{number}"] for number in range(5000)])
    with_many = measure_append_cost()
    # At most one more level of an index for each lookup.
    assert with_many <= with_few + 10


def measure_append_cost() -> int:
    """Measure the queries of an append and of a position read: in steps on SQLite, in pages on Postgres."""
    collect_statistics()
    with CaptureQueriesContext(connection) as queries:
        append(["workflow:a"])
        current_position()
    selects = [query["sql"] for query in queries if query["sql"].startswith("SELECT")]
    assert len(selects) == 2, selects
    return sum(map(steps_on_sqlite if connection.vendor == "sqlite" else pages_on_postgres, selects))


def steps_on_sqlite(query: str) -> int:
    steps = itertools.count()
    with connection.cursor() as cursor:
        connection.connection.set_progress_handler(lambda: next(steps) and 0, 1)
        cursor.execute(query)
        cursor.fetchall()
        connection.connection.set_progress_handler(None, 1)
    return next(steps)


def pages_on_postgres(query: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}")
        plan = cursor.fetchone()[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"]) + int(plan["Shared Read Blocks"])


def test_append_to_a_fully_pruned_room_continues_from_the_trimmed_seq() -> None:
    first, second = seqs(append(["workflow:a"], ["workflow:b"]))
    prune(through=first)
    assert Event.objects.count() == 1
    of_a, _ = append(["workflow:a"])
    assert (of_a.room, of_a.previous_seq) == ("workflow:a", first)
    prune(through=of_a.event.seq)
    assert current_position() == Position(
        seq=of_a.event.seq, epoch=current_position().epoch, trimmed_seq=of_a.event.seq, bus_key=""
    )
    in_b, in_all = append(["workflow:b"])
    assert (in_b.previous_seq, in_all.previous_seq) == (of_a.event.seq, of_a.event.seq)
    assert in_b.event.seq > second


def test_read_events_before_the_trimmed_seq_raises() -> None:
    committed = seqs(append(*[["workflow:a"]] * 5))
    prune(through=committed[1])
    epoch = current_position().epoch
    with pytest.raises(PositionOutOfRange) as caught:
        read_events("workflow:a", epoch=epoch, **{**ALL, "after": committed[0], "through": committed[4]})
    assert (caught.value.after, caught.value.trimmed_seq) == (committed[0], committed[1])
    # Also in a room without events.
    with pytest.raises(PositionOutOfRange):
        read("workflow:b", after=committed[0], through=committed[4])
    kept = read("workflow:a", after=committed[1], through=committed[4])
    assert [event.seq for event in kept] == committed[2:]
    assert read("workflow:a", after=committed[0], through=committed[0]) == []


def test_read_events_of_another_epoch_raises() -> None:
    committed = seqs(append(["workflow:a"], ["workflow:a"]))
    before = current_position()
    after = renew_epoch()
    assert current_position() == Position(seq=before.seq, epoch=after, trimmed_seq=before.seq, bus_key="")
    assert after != before.epoch
    for room in ("workflow:a", "workflow:b", "global"):
        with pytest.raises(PositionOutOfRange):
            read_events(room, epoch=before.epoch, **{**ALL, "after": committed[-1]})
    assert read("workflow:a", after=committed[-1]) == []


def test_renew_epoch_keeps_the_position_of_a_fully_pruned_log() -> None:
    newest = seqs(append(["workflow:a"]))[0]
    prune(through=newest)
    epoch = renew_epoch()
    assert current_position() == Position(seq=newest, epoch=epoch, trimmed_seq=newest, bus_key="")


def test_append_creates_the_missing_log_row() -> None:
    append(["workflow:a"])
    Log.objects.all().delete()
    (delivery, _) = append(["workflow:a"])
    assert delivery.epoch == Log.objects.get().epoch == current_position().epoch


def test_prune_deletes_the_room_rows_of_pruned_events() -> None:
    committed = seqs(append(["workflow:a", "pool:p"], ["workflow:a"]))
    prune(through=committed[0])
    assert list(EventRoom.objects.values_list("room", "event_id")) == [("workflow:a", committed[1])]


def append_sizes(*sizes_bytes: int) -> list[int]:
    """Append an event with data of each size to one room, in one transaction, and return their seqs."""
    data = ['"' + "é" * (size // 2 - 1) + '"' for size in sizes_bytes]
    events = [NewEvent(name="test", timestamp=AT, data=text, rooms=("workflow:a",)) for text in data]
    with transaction.atomic():
        return seqs(append_events(events))


@pytest.mark.parametrize("room", ["workflow:a", "global"])
@pytest.mark.parametrize(
    ("sizes", "max_bytes", "counts"),
    [
        # Each event counts its data in bytes, not in characters, and the overhead.
        ([1000] * 5, 2 * (1000 + EVENT_OVERHEAD_BYTES), [2, 2, 1]),
        ([1000] * 5, 3 * (1000 + EVENT_OVERHEAD_BYTES) - 1, [2, 2, 1]),
        # The first event is read even if it is larger than the bound.
        ([64 * 1024, 64 * 1024, 10], 1024, [1, 1, 1]),
        ([10, 64 * 1024, 10, 10], 4096, [1, 1, 2]),
    ],
)
def test_read_events_is_bounded_in_bytes(room: str, sizes: list[int], max_bytes: int, counts: list[int]) -> None:
    after = current_position().seq
    expected = append_sizes(*sizes)
    for count in counts:
        batch = read_batch(room, after=after, max_bytes=max_bytes)
        found = [event.seq for event in batch.events]
        assert (found, batch.is_last) == (expected[:count], count == len(expected))
        assert [len(event.data.encode()) for event in batch.events] == sizes[:count]
        expected, sizes, after = expected[count:], sizes[count:], found[-1]
    assert read_batch(room, after=after, max_bytes=max_bytes) == EventBatch([], is_last=True)


def test_joint_read_is_bounded_in_bytes() -> None:
    after = current_position().seq
    committed = append_sizes(1000, 1000, 1000)
    batch, rooms = read_events_with_rooms(epoch=current_position().epoch, after=after, limit=10, max_bytes=3100)
    assert ([event.seq for event in batch.events], batch.is_last) == (committed[:2], False)
    assert rooms == {seq: ["workflow:a"] for seq in committed[:2]}


def test_read_bounded_in_bytes_does_not_load_what_it_does_not_return() -> None:
    after = current_position().seq
    append_sizes(*[60_000] * 40)
    read_batch("workflow:a", after=after, max_bytes=100_000)  # Compile the statement.
    gc.collect()
    tracemalloc.start()
    try:
        batch = read_batch("workflow:a", after=after, max_bytes=100_000)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(batch.events) == 1
    assert peak_bytes < 600_000
