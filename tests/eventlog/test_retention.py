"""Retention: the oldest events are pruned first, and resuming from a pruned position is rejected."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from django.db import transaction

from realtime.eventlog import retention as retention_module
from realtime.eventlog.append import NewEvent, append_events
from realtime.eventlog.position import Position, current_position
from realtime.eventlog.retention import Retention, prune_events
from realtime.models import Event, EventRoom
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer

NOW = datetime(2026, 2, 10, 20, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def pruning_server(start_module_server: StartServer) -> MahavishnuServer:
    """Start a server that prunes often, but never events that the relay has not compared with the log yet."""
    return start_module_server(
        max_log_events=20, min_log_age_seconds=4, log_prune_interval_seconds=0.1, relay_poll_seconds=0.05
    )


def append(ages: Iterable[timedelta]) -> list[int]:
    """Append one event per age, each in a separate transaction, and return their positions."""
    seqs = []
    for age in ages:
        event = NewEvent(name="workflow.started", timestamp=NOW - age, data="{}", rooms=("workflow:a", "pool:p"))
        with transaction.atomic():
            seqs.append(append_events([event])[0].event.seq)
    return seqs


def remaining_seqs() -> list[int]:
    return list(Event.objects.order_by("seq").values_list("seq", flat=True))


def prune(*, max_events: int = 10**6, max_age: timedelta = 100 * HOUR, min_age: timedelta = timedelta(0)) -> int:
    return prune_events(Retention(max_events=max_events, max_age=max_age, min_age=min_age), at=NOW)


def on_both_databases(test: Callable[..., None]) -> Callable[..., None]:
    """Mark a test that runs in this process, on its database."""
    marked: Callable[..., None] = pytest.mark.both_databases(pytest.mark.django_db(transaction=True)(test))
    return marked


@on_both_databases
def test_prune_deletes_the_oldest_events_above_max_events() -> None:
    seqs = append([HOUR] * 10)
    assert prune(max_events=10) == 0
    assert prune(max_events=4) == 6
    assert (remaining_seqs(), current_position().trimmed_seq) == (seqs[6:], seqs[5])
    assert prune(max_events=4) == 0
    assert list(EventRoom.objects.order_by("event").values_list("event", flat=True).distinct()) == seqs[6:]


@on_both_databases
def test_prune_deletes_events_older_than_max_age() -> None:
    seqs = append([5 * HOUR, 4 * HOUR, 3 * HOUR, 2 * HOUR])
    assert prune(max_age=3 * HOUR) == 2
    assert (remaining_seqs(), current_position().trimmed_seq) == (seqs[2:], seqs[1])


@on_both_databases
def test_prune_keeps_events_younger_than_min_age() -> None:
    seqs = append([3 * HOUR, 2 * HOUR, HOUR / 2, timedelta(0)])
    assert prune(max_events=1, min_age=HOUR) == 2
    assert remaining_seqs() == seqs[2:]
    assert prune(max_events=1, max_age=timedelta(seconds=1), min_age=2 * HOUR) == 0


@on_both_databases
def test_prune_stops_at_the_first_event_to_keep() -> None:
    """Timestamps need not be in commit order, because clocks differ."""
    seqs = append([9 * HOUR, HOUR, 9 * HOUR])
    assert prune(max_age=5 * HOUR) == 1
    assert (remaining_seqs(), current_position().trimmed_seq) == (seqs[1:], seqs[0])


@on_both_databases
def test_prune_is_not_blocked_by_a_future_timestamp() -> None:
    """A wrong clock, or a caller's `at`. Such an event is pruned with the next old event, or by count."""
    seqs = append([-HOUR, -HOUR, 9 * HOUR, -HOUR, HOUR])
    assert prune(max_age=10 * HOUR) == 0
    assert prune(max_age=5 * HOUR) == 3
    assert (remaining_seqs(), current_position().trimmed_seq) == (seqs[3:], seqs[2])
    assert prune(max_events=1, min_age=2 * HOUR) == 1
    assert remaining_seqs() == seqs[4:]


@on_both_databases
def test_prune_of_all_events_keeps_the_position() -> None:
    seqs = append([HOUR] * 3)
    epoch = current_position().epoch
    assert prune(max_events=0) == 3
    assert current_position() == Position(seq=seqs[-1], epoch=epoch, trimmed_seq=seqs[-1], bus_key="")
    assert prune(max_events=0) == 0
    (next_seq,) = append([HOUR])
    assert next_seq > seqs[-1]


@on_both_databases
def test_prune_deletes_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_module, "_PRUNE_CHUNK_EVENTS", 3)
    seqs = append([HOUR] * 10)
    positions = []
    chunk = retention_module._prune_chunk

    def recorded_chunk(retention: Retention, at: datetime) -> int:
        pruned = chunk(retention, at)
        positions.append((pruned, current_position().trimmed_seq))
        return pruned

    monkeypatch.setattr(retention_module, "_prune_chunk", recorded_chunk)
    assert prune(max_events=2) == 8
    assert positions == [(3, seqs[2]), (3, seqs[5]), (2, seqs[7])]


async def test_server_prunes_periodically_without_affecting_subscribers(pruning_server: MahavishnuServer) -> None:
    server = pruning_server
    async with connect(server) as client:
        await client.subscribe("global")
        received = []
        for number in range(60):
            server.services.create_pool(pool_id=f"pool_{number}")
            received.append(await client.event())
        assert [event["data"]["pool_id"] for event in received] == [f"pool_{number}" for number in range(60)]
        seqs = [event["seq"] for event in received]
        epoch = client.welcome["data"]["epoch"]
        # One position below the remaining events and one among them.
        for _ in range(300):
            answers = [
                (await client.subscribe("global", since=seq, epoch=epoch))["data"] for seq in (seqs[5], seqs[45])
            ]
            if answers[0]["recovered"] is False:
                break
            await asyncio.sleep(0.1)
        assert (answers[0]["reason"], answers[0]["missed"]) == ("trimmed", 0)
        assert (answers[1]["recovered"], answers[1]["missed"]) == (True, 14)


_WRITE_UNTIL_STOPPED = """
import os, time
from orchestration import services
number = 0
while not os.path.exists(stop):
    services.create_pool(pool_id=f"p{number}")
    number += 1
    time.sleep(0.02)
"""

RESUMES_WHILE_PRUNED = 60


async def test_resume_during_pruning_is_complete_or_reported_as_trimmed(
    pruning_server: MahavishnuServer, tmp_path: Path
) -> None:
    server = pruning_server
    writer, stop = server.driver(), tmp_path / "stop"
    outcomes: Counter[bool] = Counter()
    async with connect(server) as client:
        epoch = client.welcome["data"]["epoch"]
        start = last = client.welcome["data"]["seq"]
        writing = asyncio.create_task(asyncio.to_thread(writer.execute, _WRITE_UNTIL_STOPPED, stop=str(stop)))
        try:
            while not (outcomes[False] and outcomes.total() >= RESUMES_WHILE_PRUNED):
                for since in (start, max(last - 120, start), max(last - 30, start), last):
                    answer = (await client.subscribe("global", since=since, epoch=epoch))["data"]
                    outcomes[answer["recovered"]] += 1
                    replayed = await client.events(answer["missed"])
                    seqs = [event["seq"] for event in replayed]
                    if answer["recovered"]:
                        # SQLite assigns positions without gaps, so a missing event would show.
                        assert seqs == list(range(since + 1, answer["seq"] + 1))
                        assert all(event["replay"] for event in replayed)
                    else:
                        assert (answer["reason"], seqs) == ("trimmed", [])
                    last = answer["seq"]
                    await client.unsubscribe("global")
                    client.waiting()
                    await asyncio.sleep(0.03)  # A client may send 100 messages a second.
        finally:
            stop.touch()
            await writing
    assert set(outcomes) == {True, False}
