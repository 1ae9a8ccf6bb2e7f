"""Rooms open and close: where a subscription starts, and what remains of a cancelled one."""

from __future__ import annotations

import asyncio
import time

import pytest
from channels.layers import get_channel_layer

from realtime.broadcast.groups import group_name
from realtime.queries import resume
from tests.broadcast.relay_sandbox import (
    ARRIVAL_TIMEOUT_SECONDS,
    NEVER_SECONDS,
    ROOM,
    RelaySandbox,
    Subscriber,
    entry,
    running_sandbox,
    seqs_of,
)
from tests.harness.valkey import Valkey

pytestmark = pytest.mark.django_db(transaction=True)


async def test_opening_room_delivers_no_event_from_before_the_response(sandbox: RelaySandbox) -> None:
    with sandbox.paused("_read_positions", after_reading=True) as pause:
        joining = asyncio.create_task(sandbox.member(ROOM))
        await pause.reached()
        # The room has read the log's position, so it has joined its group.
        await sandbox.settle()
        before = await sandbox.commit(ROOM)
        await sandbox.send(before, room=ROOM)
        await sandbox.until(lambda: list(sandbox.relay.rooms[ROOM].reorder_buffer) == seqs_of(before))
    member = await joining
    after = await sandbox.commit(ROOM)
    await sandbox.send(after, room=ROOM)
    await sandbox.settle()
    assert member.seqs == seqs_of(after)


async def test_rooms_that_open_together_share_position_reads(sandbox: RelaySandbox) -> None:
    sandbox.reads.clear()
    members = {f"workflow:{number}": Subscriber(sandbox.relay) for number in range(200)}
    channels = list(members)
    with sandbox.paused("_read_positions", after_reading=True) as pause:
        joining = [asyncio.create_task(member.subscribe(channel)) for channel, member in members.items()]
        await pause.reached()
        groups = [group_name(channel, epoch=sandbox.epoch) for channel in channels]
        await sandbox.until(lambda: sandbox.relay.groups._joined.issuperset(groups))
        # One read is held. A request after its start must not get its result.
        meanwhile = await sandbox.commit(*channels)
    await asyncio.gather(*joining)
    assert sandbox.reads == ["_read_positions"] * 2
    starts = [sandbox.relay.rooms[channel].seq for channel in channels]
    assert (starts[0], set(starts[1:])) == (0, {meanwhile[0].event.seq})
    await sandbox.settle()
    committed = await sandbox.commit(*channels)
    for channel in channels:
        await sandbox.send(committed, room=channel)
    await sandbox.settle()
    await members[channels[0]].has(2)
    both = [meanwhile[0].event.seq, committed[0].event.seq]
    assert [member.seqs for member in members.values()] == [both, *[both[1:]] * 199]


async def test_subscriber_ahead_of_its_room_gets_no_duplicates(sandbox: RelaySandbox) -> None:
    behind = await sandbox.member(ROOM)
    committed = await sandbox.commit(ROOM, count=3)
    ahead = Subscriber(sandbox.relay)
    response = await ahead.subscribe(ROOM, since=0)
    assert (response.recovered, response.missed, response.seq) == (True, 3, committed[-1].event.seq)
    assert behind.messages == []
    later = await sandbox.commit(ROOM)
    await sandbox.send(committed + later, room=ROOM)
    await behind.has(4)
    assert ahead.seqs == behind.seqs == seqs_of(committed + later)
    assert [message.get("replay") for message in ahead.messages] == [True, True, True, None]


async def test_subscriber_behind_its_room_gets_the_events_between(sandbox: RelaySandbox) -> None:
    await sandbox.member(ROOM)
    joining = Subscriber(sandbox.relay)
    with sandbox.paused("find_resume_point", after_reading=True) as pause:
        subscribing = asyncio.create_task(joining.subscribe(ROOM, snapshot=True))
        await pause.reached()
        between = await sandbox.commit(ROOM, count=2)
        await sandbox.send(between, room=ROOM)
        await sandbox.settle()
    response = await subscribing
    later = await sandbox.commit(ROOM)
    await sandbox.send(later, room=ROOM)
    await sandbox.settle()
    assert response.seq < between[0].event.seq
    assert joining.seqs == seqs_of(between + later)
    assert not any("replay" in message for message in joining.messages)


async def test_activated_subscriber_gets_no_pending_events_it_has_read(sandbox: RelaySandbox) -> None:
    first = await sandbox.member(ROOM)
    room = sandbox.relay.rooms[ROOM]
    committed = await sandbox.commit(ROOM)
    second = Subscriber(sandbox.relay)
    await sandbox.relay.join(ROOM, second)
    # In one turn of the loop: the event is delivered, and is written only at the end of the turn.
    sandbox.relay._deliver_contiguous(room, [entry(committed[0])])
    assert room.activate(second, after=committed[0].event.seq)
    await first.has(1)
    await sandbox.settle()
    assert (first.seqs, second.seqs) == (seqs_of(committed), [])


async def test_resubscribing_with_since_replays_then_delivers_each_event_once(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    first = await sandbox.commit(ROOM, count=2)
    await sandbox.send(first, room=ROOM)
    await member.has(2)
    with sandbox.paused("find_resume_point", after_reading=True) as pause:
        again = asyncio.create_task(member.subscribe(ROOM, since=0))
        await pause.reached()
        between = await sandbox.commit(ROOM)
        await sandbox.send(between, room=ROOM)
        await sandbox.settle()
        assert member.seqs == seqs_of(first), "an event arrived before the response"
    await again
    later = await sandbox.commit(ROOM)
    await sandbox.send(later, room=ROOM)
    await sandbox.settle()
    assert member.seqs == seqs_of(first) * 2 + seqs_of(between + later)


async def test_replay_ends_at_the_position_of_the_response(
    sandbox: RelaySandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "REPLAY_CHUNK_EVENTS", 2)
    committed = await sandbox.commit(ROOM, count=5)
    client = Subscriber(sandbox.relay)
    with sandbox.paused("read_chunk", after_reading=False) as pause:
        subscribing = asyncio.create_task(client.subscribe(ROOM, since=0))
        await pause.reached()
        await sandbox.settle()
        later = await sandbox.commit(ROOM, count=2)
        await sandbox.send(later, room=ROOM)
        await sandbox.settle()
    response = await subscribing
    await sandbox.settle()
    assert (response.recovered, response.missed, response.seq) == (True, 5, committed[-1].event.seq)
    assert client.seqs == seqs_of(committed + later)
    assert [message.get("replay") for message in client.messages] == [True] * 5 + [None] * 2


async def test_last_unsubscribe_closes_the_room(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    await member.unsubscribe(ROOM)
    committed = await sandbox.commit(ROOM)
    await sandbox.send(committed, room=ROOM)
    await sandbox.settle()
    await sandbox.relay.backfill.compare_with_log()
    assert member.messages == []
    assert ROOM not in sandbox.relay.rooms


async def test_cancelled_join_leaves_no_room_behind(sandbox: RelaySandbox) -> None:
    with sandbox.paused("_read_positions", after_reading=False) as pause:
        joining = asyncio.create_task(sandbox.member(ROOM))
        await pause.reached()
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining
        assert sandbox.relay.rooms == {}
        # Another subscriber joins before the first room has finished closing.
        other = asyncio.create_task(sandbox.member(ROOM))
        await asyncio.sleep(0)
    member = await other
    committed = await sandbox.commit(ROOM)
    await sandbox.send(committed, room=ROOM)
    await member.has(1)
    assert member.seqs == seqs_of(committed)
    await member.unsubscribe(ROOM)
    await sandbox.settle()
    await sandbox.until(lambda: not sandbox.relay._background)
    assert sandbox.relay.rooms == {}
    assert not any(ROOM.replace(":", ".") in group for group in get_channel_layer().groups)


async def test_cancelled_join_leaves_no_group_behind(sandbox: RelaySandbox) -> None:
    layer = get_channel_layer()
    async with sandbox.relay.groups._lock:
        joining = asyncio.create_task(sandbox.member(ROOM))
        await sandbox.until(lambda: ROOM in sandbox.relay.rooms)
        room = sandbox.relay.rooms[ROOM]
        await asyncio.sleep(0)
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining
    await sandbox.until(lambda: not sandbox.relay._background)
    assert sandbox.relay.rooms == {}
    assert room.group not in {group.rpartition("__group__")[2] for group in layer.groups}


async def test_only_the_first_subscriber_waits_for_a_hanging_channel_layer(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_sandbox(monkeypatch, publish_timeout_seconds=0.3) as sandbox:
        subscriber = Subscriber(sandbox.relay)
        (shard,) = get_channel_layer()._get_layer()._shards
        # The layer's own lock: all calls wait for one that does not return.
        async with shard._lock:
            began = time.monotonic()
            await subscriber.subscribe("workflow:0")
            assert time.monotonic() - began >= 0.3
            sandbox.relay.groups._timeout_seconds = NEVER_SECONDS
            async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
                for number in (1, 2):
                    await subscriber.subscribe(f"workflow:{number}")
        # Events arrive from the log.
        committed = await sandbox.commit("workflow:2")
        await sandbox.relay.backfill.compare_with_log()
        await subscriber.has(1)
        assert subscriber.seqs == seqs_of(committed, "workflow:2")


async def test_room_that_failed_to_open_is_opened_by_the_next_subscriber(sandbox: RelaySandbox) -> None:
    sandbox.fail_next("_read_positions")
    with pytest.raises(OSError, match="unavailable"):
        await sandbox.member(ROOM)
    assert sandbox.relay.rooms == {}
    member = await sandbox.member(ROOM)
    committed = await sandbox.commit(ROOM)
    await sandbox.send(committed, room=ROOM)
    await member.has(1)
