"""The follower of the event log: its place after an error, chunks, and the search for a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from realtime.eventlog.position import current_position
from realtime.events.samples import sample_event
from realtime.management import log_follower
from realtime.management.log_follower import LogFollower, position_before

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.both_databases, pytest.mark.usefixtures("valkey")]

START = datetime(2026, 1, 31, 12, tzinfo=UTC)


def append(*rooms: str) -> list[int]:
    """Append an event in each of these rooms, a minute after the one before. Return their positions."""
    seqs: list[int] = []
    with transaction.atomic():
        for number, room in enumerate(rooms):
            at = START + timedelta(minutes=number)
            sample_event("deploy.finished", data={}, room=room, at=at).announce(on_written=seqs.append)
    return seqs


def test_poll_after_an_error_continues_after_the_last_delivered_event(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_follower, "_EVENTS_PER_QUERY", 3)
    start = current_position().seq
    follower = LogFollower(["pool:a", "global", "pool:b"], begin_after=lambda _: start)
    seqs = append(*("pool:a", "pool:b") * 4)
    places = [(seq, room) for seq, own in zip(seqs, ("pool:a", "pool:b") * 4, strict=True) for room in (own, "global")]
    found = []
    # Each poll delivers some events, and fails before the next one.
    for size in (1, 2, 4, 100):
        for _, (channel, event) in zip(range(size), follower.poll(), strict=False):
            found.append((event.seq, channel))
    assert sorted(found) == sorted(places)
    assert [seq for seq, _ in found] == sorted(seq for seq, _ in found)
    assert follower.read_through == seqs[-1]
    assert list(follower.poll()) == []


def test_position_before_a_time_is_that_of_the_last_earlier_event() -> None:
    seqs = append(*["global"] * 9)
    position = current_position()
    for number, seq in enumerate(seqs):
        time = START + timedelta(minutes=number)
        assert position_before(time + timedelta(seconds=1), position) == seq
        if number:
            assert position_before(time, position) == seqs[number - 1]
    assert position_before(START + timedelta(days=1), position) == seqs[-1]
