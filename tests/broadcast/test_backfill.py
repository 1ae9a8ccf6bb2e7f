"""Backfill from the event log: events that the channel layer lost, and the comparison that finds them."""

from __future__ import annotations

import asyncio
import threading

import pytest
from django.conf import settings

from realtime.broadcast import backfill, relay
from realtime.database import in_database_thread
from tests.broadcast.relay_sandbox import (
    ARRIVAL_TIMEOUT_SECONDS,
    NEVER_SECONDS,
    OTHER,
    ROOM,
    RelaySandbox,
    Subscriber,
    seqs_of,
)

pytestmark = pytest.mark.django_db(transaction=True)


async def test_comparing_delivers_a_lost_last_event(sandbox: RelaySandbox) -> None:
    member, all_of_it = await sandbox.member(ROOM), await sandbox.member("global")
    committed = await sandbox.commit(ROOM, OTHER, count=2)
    await sandbox.relay.backfill.compare_with_log()
    await sandbox.settle()
    assert (member.seqs, all_of_it.seqs) == (seqs_of(committed), seqs_of(committed))


async def test_comparing_reads_only_rooms_behind_the_log(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    await sandbox.member(OTHER)
    committed = await sandbox.commit(ROOM)
    await sandbox.send(committed, room=ROOM)
    await member.has(1)
    sandbox.reads.clear()
    await sandbox.relay.backfill.compare_with_log()
    assert sandbox.reads == ["_position_and_newest"]


async def test_comparing_waits_for_no_query_of_a_client(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    committed = await sandbox.commit(ROOM)
    release = threading.Event()
    stuck = [in_database_thread(release.wait) for _ in range(settings.MAHAVISHNU_LIMITS.database_threads)]
    requests = asyncio.gather(*stuck)
    try:
        async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
            await sandbox.relay.backfill.compare_with_log()
    finally:
        release.set()
        await requests
    assert member.seqs == seqs_of(committed)


async def test_messages_during_a_backfill_are_delivered_once(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    first = await sandbox.commit(ROOM, count=2)
    with sandbox.paused("read_events", after_reading=True) as pause:
        comparing = asyncio.create_task(sandbox.relay.backfill.compare_with_log())
        await pause.reached()
        second = await sandbox.commit(ROOM, count=2)
        # The first of these is in the result of the backfill's read; the second is delivered before it continues.
        await sandbox.send([*first, second[0], second[1]], room=ROOM)
        await sandbox.settle()
    await comparing
    third = await sandbox.commit(ROOM)
    await sandbox.send(third, room=ROOM)
    await member.has(5)
    await sandbox.settle()
    assert member.seqs == seqs_of(first + second + third)


async def test_failed_backfill_is_repeated_by_the_next_comparison(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    committed = await sandbox.commit(ROOM, count=2)
    sandbox.fail_next("read_events")
    with pytest.raises(OSError, match="unavailable"):
        await sandbox.relay.backfill.compare_with_log()
    assert member.seqs == []
    # Nothing was written since. The position did not move, so the comparison finds the same events.
    await sandbox.relay.backfill.compare_with_log()
    assert member.seqs == seqs_of(committed)


async def test_backfill_reads_many_events_in_chunks_and_in_order(
    sandbox: RelaySandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "BACKFILL_CHUNK_EVENTS", 3)
    member = await sandbox.member(ROOM)
    committed = await sandbox.commit(ROOM, OTHER, count=7)
    sandbox.reads.clear()
    await sandbox.relay.backfill.compare_with_log()
    await sandbox.settle()
    assert member.seqs == seqs_of(committed)
    assert sandbox.reads.count("read_events") == 3


async def test_many_rooms_behind_the_log_are_filled_together(
    sandbox: RelaySandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backfill, "BACKFILL_CHUNK_EVENTS", 10)
    # Otherwise a slow machine fills the room with the gap before the comparison does.
    monkeypatch.setattr(relay, "_REORDER_GRACE_SECONDS", NEVER_SECONDS)
    await sandbox.catch_up()
    channels = [f"workflow:{number}" for number in range(20)]
    members = {channel: Subscriber(sandbox.relay) for channel in [*channels, "global"]}
    for channel, member in members.items():
        await member.subscribe(channel)
    await sandbox.settle()
    committed = []
    for number in range(25):
        committed += await sandbox.commit(channels[number % 20], channels[(number + 7) % 20], OTHER)
    # One room received everything from its group; one buffers an event with a gap in front of it.
    await sandbox.send(committed, room=channels[3])
    await sandbox.send([delivery for delivery in committed if delivery.room == channels[5]][-1:], room=channels[5])
    await sandbox.settle()
    sandbox.reads.clear()
    with sandbox.paused("read_events_with_rooms", after_reading=True) as pause:
        comparing = asyncio.create_task(sandbox.relay.backfill.compare_with_log())
        await pause.reached()
        later = await sandbox.commit(channels[0], channels[3], channels[5])
        await sandbox.send(committed + later, room=channels[0])
        await sandbox.send(later, room=channels[3])
        await sandbox.settle()
    await comparing
    await sandbox.settle()
    assert sandbox.reads.count("read_events_with_rooms") == 3
    for channel, member in members.items():
        assert member.seqs == seqs_of(committed + later, channel), channel


async def test_failed_joint_backfill_is_repeated_by_the_next_comparison(sandbox: RelaySandbox) -> None:
    await sandbox.catch_up()
    members = [await sandbox.member(ROOM), await sandbox.member(OTHER), await sandbox.member("global")]
    committed = await sandbox.commit(ROOM, OTHER, count=2)
    sandbox.fail_next("read_events_with_rooms")
    with pytest.raises(OSError, match="unavailable"):
        await sandbox.relay.backfill.compare_with_log()
    await sandbox.relay.backfill.compare_with_log()
    await sandbox.settle()
    assert [member.seqs for member in members] == [seqs_of(committed)] * 3
