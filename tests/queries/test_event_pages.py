"""What a page of events has, and that it examines a bounded part of the log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from orchestration.bounds import KIB
from realtime.eventlog.append import NewEvent, append_events
from realtime.eventlog.position import current_position
from realtime.limits import Limits
from realtime.models import Log
from realtime.queries import event_pages
from realtime.queries.event_pages import EventPage, EventQuery
from realtime.queries.pages import EXAMINED_ROW_BYTES
from tests.harness.query_plans import collect_statistics, explain

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

LIMITS = Limits()
AT = datetime(2026, 2, 10, 20, 0, tzinfo=UTC)

WINDOW = 20


@pytest.fixture(autouse=True)
def small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_pages, "MAX_EXAMINED_EVENTS", WINDOW)
    current_position()  # Create the log.


def append(count: int, *, name: str = "workflow.stage_log", rooms: tuple[str, ...] = (), data: str = "{}") -> list[int]:
    """Append events, and return their positions."""
    event = NewEvent(name=name, timestamp=AT, data=data, rooms=rooms)
    with transaction.atomic():
        return [each.event.seq for each in append_events([event] * count) if each.room == "global"]


def read(
    channel: str = "global",
    *,
    limit: int = 100,
    names: tuple[str, ...] = (),
    before: int | None = None,
    after: int | None = None,
) -> EventPage:
    query = EventQuery(channel=channel, before=before, after=after, names=names, limit=limit)
    return query.read(LIMITS)


def pages(channel: str, direction: str, start: int, *, names: tuple[str, ...]) -> Iterator[EventPage]:
    position: int | None = start
    while position is not None:
        bounds = {"before": position} if direction == "before" else {"after": position}
        page = read(channel, names=names, **bounds)
        yield page
        position = page.next_seq


def seqs(page: EventPage) -> list[int]:
    return [event["seq"] for event in json.loads(page.events)]


def test_page_has_the_newest_events_or_those_before_or_after_a_position() -> None:
    positions = append(10)
    assert seqs(read(limit=3)) == positions[7:]
    assert read(limit=3).next_seq == positions[7]
    assert seqs(read(limit=3, before=positions[7])) == positions[4:7]
    assert seqs(read(limit=3, after=positions[4])) == positions[5:8]
    assert read(limit=3, after=positions[4]).next_seq == positions[7]
    assert read(limit=3, after=positions[6]).next_seq is None
    assert seqs(read(after=positions[-1])) == []
    assert read().position == current_position()


def test_event_has_the_fields_of_its_message() -> None:
    (seq,) = append(1, name="workflow.started", data='{"prompt":"ä"}')
    page = read(limit=1)
    (event,) = json.loads(page.events)
    assert event.pop("id")
    assert event == {
        "event": "workflow.started",
        "data": {"prompt": "ä"},
        "timestamp": "2026-02-10T20:00:00Z",
        "seq": seq,
    }
    assert page.cost_bytes == len(page.events.encode()) + EXAMINED_ROW_BYTES * 2 - (page.next_seq is None) * 16


@pytest.mark.parametrize("channel", ["global", "pool:p"])
@pytest.mark.parametrize("direction", ["before", "after"])
def test_names_select_events_and_a_page_may_be_empty(channel: str, direction: str) -> None:
    append(1, name="workflow.failed", rooms=("pool:other",) if channel != "global" else ())
    start = current_position().seq + 1
    append(3, rooms=("pool:other",)) if channel != "global" else None
    append(5, rooms=("pool:p",))
    wanted = append(1, name="workflow.failed", rooms=("pool:p",))
    append(3 * WINDOW, rooms=("pool:p",))
    wanted += append(2, name="workflow.completed", rooms=("pool:p",))
    append(5, rooms=("pool:p",))
    first = start - 1 if direction == "after" else current_position().seq + 1
    names = ("workflow.completed", "workflow.failed")
    found = list(islice(pages(channel, direction, first, names=names), 10))
    listed = [seq for page in (found if direction == "after" else found[::-1]) for seq in seqs(page)]
    assert listed[-3:] == wanted
    assert [] in [seqs(page) for page in found]
    assert max(page.cost_bytes - len(page.events) for page in found) == EXAMINED_ROW_BYTES * WINDOW
    assert found[-1].next_seq is None


def test_page_is_bounded_in_bytes_and_has_at_least_one_event() -> None:
    positions = append(6, data=json.dumps({"x": "y" * 60 * KIB}))
    assert LIMITS.replay_chunk_bytes == 256 * KIB
    page = read()
    assert seqs(page) == positions[2:]
    assert page.next_seq == positions[2]
    later = read(after=positions[0] - 1)
    assert (seqs(later), later.next_seq) == (positions[:4], positions[3])
    small = Limits(max_replay_chunk_bytes=KIB)
    one = EventQuery(channel="global", before=None, after=None, names=(), limit=9).read(small)
    assert (seqs(one), one.next_seq) == (positions[-1:], positions[-1])


def test_events_of_a_replaced_log_are_not_listed() -> None:
    positions = append(5)
    Log.objects.update(trimmed_seq=positions[2])
    assert seqs(read()) == seqs(read(after=0)) == positions[3:]
    assert read(before=positions[3]).next_seq is None


def test_summary_has_the_reduced_events_of_global() -> None:
    (first,) = append(1, name="workflow.created", data=json.dumps({"prompt": "p" * 300, "params": {"x": "y" * 5000}}))
    append(2 * WINDOW)
    (last,) = append(1, name="workflow.completed", data='{"name":"report","result":1}')
    found = list(pages("summary", "after", first - 1, names=()))
    assert [seq for page in found for seq in seqs(page)] == [first, last]
    (created,), (completed,) = (json.loads(page.events) for page in found if seqs(page))
    assert created["data"] == {"prompt": "p" * 199 + "…"}
    assert completed["data"] == {"name": "report"}
    # What was read is charged, with what was removed.
    assert found[0].cost_bytes > 5000 + EXAMINED_ROW_BYTES * WINDOW
    assert seqs(read("summary", names=("workflow.stage_log", "workflow.created"), after=first - 1)) == [first]
    assert read("summary", names=("workflow.stage_log",)).events == "[]"


# How the plans name the index of each table.
SCANS = {
    "sqlite": {
        "global": "SEARCH realtime_event USING INTEGER PRIMARY KEY",
        "pool:p": "sqlite_autoindex_realtime_eventroom_1 (room=? AND seq>? AND seq<?)",
    },
    "postgresql": {"global": "realtime_event_pkey", "pool:p": "realtime_eventroom_pkey"},
}


@pytest.mark.parametrize("channel", ["global", "pool:p"])
def test_page_reads_a_range_of_an_index(channel: str) -> None:
    append(900, rooms=("pool:other",))
    positions = append(100, rooms=("pool:p",))
    collect_statistics()
    with CaptureQueriesContext(connection) as captured:
        read(channel, names=("workflow.failed",), before=positions[90])
    (search,) = (query["sql"] for query in captured if "examined" in query["sql"])
    with transaction.atomic():
        plan = explain(search)
    assert SCANS[connection.vendor][channel] in plan
    # No join: each event is found by its position.
    assert "Join" not in plan
