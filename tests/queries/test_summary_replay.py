"""What a replay of `summary` reads from the log, and what it is charged."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import transaction

from realtime.eventlog.append import NewEvent, append_events
from realtime.eventlog.position import current_position
from realtime.eventlog.reader import EVENT_OVERHEAD_BYTES, count_events, read_events
from realtime.limits import Limits
from realtime.protocol.requests import MAX_SEQ
from realtime.protocol.summary import LEFT_OUT
from realtime.queries.resume import MAX_SUMMARY_POSITIONS, ResumePoint, find_resume_point

pytestmark = [pytest.mark.both_databases, pytest.mark.django_db(transaction=True)]

AT = datetime(2026, 2, 10, 20, 0, tzinfo=UTC)


def append(*names: str, data: str = '{"result":1}') -> list[int]:
    events = [NewEvent(name=name, timestamp=AT, data=data, rooms=()) for name in names]
    with transaction.atomic():
        return [delivery.event.seq for delivery in append_events(events)]


def resume_from(since: int, *, channel: str = "summary", with_snapshot: bool = False, **limits: Any) -> ResumePoint:
    return find_resume_point(channel, since=since, epoch=None, with_snapshot=with_snapshot, limits=Limits(**limits))


def test_reads_of_summary_leave_out_events_within_all_bounds() -> None:
    position = current_position()
    two_left_out = LEFT_OUT[:2]
    seqs = append("a", *two_left_out, "b", LEFT_OUT[2], "c", LEFT_OUT[3])
    carried = [seqs[0], seqs[3], seqs[5]]
    bounds: dict[str, Any] = {"epoch": position.epoch, "after": position.seq, "through": MAX_SEQ}

    def read(limit: int = 10, max_bytes: int = 10**6, **others: int) -> tuple[list[int], bool]:
        batch = read_events("summary", **{**bounds, **others}, limit=limit, max_bytes=max_bytes)
        return [event.seq for event in batch.events], batch.is_last

    assert read() == (carried, True)
    assert read(limit=2) == (carried[:2], False)
    assert read(max_bytes=2 * EVENT_OVERHEAD_BYTES + 100) == (carried[:2], False)
    assert read(after=seqs[3], through=seqs[5]) == ([seqs[5]], True)
    assert read(after=seqs[5]) == ([], True)
    assert count_events("summary", after=position.seq, through=MAX_SEQ, limit=10) == 3


def test_replay_of_summary_is_charged_for_what_it_reads_and_for_what_it_leaves_out() -> None:
    (before,) = append("before")
    append("workflow.completed", data=f'{{"result":"{"x" * 5000}"}}')
    summary, everything = resume_from(before), resume_from(before, channel="global")
    assert summary.chunk is not None
    assert summary.chunk.size_bytes < 500
    assert 0 <= summary.cost_bytes - everything.cost_bytes < 10  # The name of the room, and a comma.
    append(*LEFT_OUT[:2] * 50)
    assert (resume_from(before).missed, resume_from(before).cost_bytes) == (1, summary.cost_bytes + 1600)


def test_replay_of_summary_is_bounded_in_the_positions_that_it_passes_over() -> None:
    (before,) = append("before")
    append(*[LEFT_OUT[0]] * 2 * MAX_SUMMARY_POSITIONS)
    assert resume_from(before, max_replay_events=2).reason is None
    append("a", "b")
    assert resume_from(before, max_replay_events=2).reason == "limit"
    assert resume_from(before, max_replay_events=3).missed == resume_from(before + 2, max_replay_events=2).missed == 2
    append("c")
    assert resume_from(before + 3, max_replay_events=2).reason == "limit"


def test_snapshot_of_summary_is_that_of_global() -> None:
    append("any")
    snapshots = [resume_from(0, channel=channel, with_snapshot=True).snapshot for channel in ("summary", "global")]
    assert snapshots[0] == snapshots[1]
    assert set(json.loads(snapshots[0] or "")) == {"workflows", "pools"}
