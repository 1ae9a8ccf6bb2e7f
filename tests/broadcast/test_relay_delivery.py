"""Group messages reach the subscribers of their room: once, in order and without gaps. See `relay_sandbox`."""

from __future__ import annotations

import json

import pytest
from channels.layers import get_channel_layer

from realtime.broadcast import relay
from realtime.broadcast.groups import group_name
from tests.broadcast.relay_sandbox import OTHER, ROOM, RelaySandbox, Subscriber, entry, send_entries, seqs_of

pytestmark = pytest.mark.django_db(transaction=True)


async def test_relay_delivers_only_to_subscribers_of_the_room(sandbox: RelaySandbox) -> None:
    one, two, elsewhere = await sandbox.member(ROOM), await sandbox.member(ROOM), await sandbox.member(OTHER)
    committed = await sandbox.commit(ROOM)
    sandbox.reads.clear()
    await sandbox.send(committed, room=ROOM)
    await one.has(1)
    event = committed[0].event
    assert one.messages == two.messages
    assert one.messages == [
        {
            "id": event.id,
            "type": "event",
            "event": "workflow.started",
            "data": {},
            "timestamp": one.messages[0]["timestamp"],
            "room": ROOM,
            "seq": event.seq,
        }
    ]
    assert elsewhere.messages == []
    assert sandbox.reads == []


async def test_relay_fills_a_gap_before_later_events(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    committed = await sandbox.commit(ROOM, count=4)
    await sandbox.send(committed[-2:], room=ROOM)
    await member.has(4)
    await sandbox.settle()
    assert member.seqs == seqs_of(committed)


async def test_relay_reorders_entries_without_reading_the_log(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    committed = await sandbox.commit(ROOM, count=3)
    sandbox.reads.clear()
    entries = [entry(delivery) for delivery in committed if delivery.room == ROOM]
    group = group_name(ROOM, epoch=committed[0].epoch)
    await send_entries(group, ROOM, [entries[2], entries[0], entries[1]])
    await member.has(3)
    assert (member.seqs, sandbox.reads) == (seqs_of(committed), [])


async def test_relay_delivers_duplicate_and_late_entries_once(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    committed = await sandbox.commit(ROOM, count=3)
    await sandbox.send(committed, room=ROOM)
    await sandbox.send(committed, room=ROOM)
    await sandbox.send(reversed(committed), room=ROOM)
    await sandbox.settle()
    assert member.seqs == seqs_of(committed)


async def test_relay_coalesces_events_of_one_loop_turn_into_one_write(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    committed = await sandbox.commit(ROOM, count=50)
    entries = [entry(delivery) for delivery in committed if delivery.room == ROOM]
    await send_entries(group_name(ROOM, epoch=committed[0].epoch), ROOM, entries)
    await member.has(50)
    assert (member.seqs, member.writes) == (seqs_of(committed), 1)


async def test_relay_coalesces_writes_across_rooms(sandbox: RelaySandbox) -> None:
    both, one, other = Subscriber(sandbox.relay), await sandbox.member(ROOM), await sandbox.member(OTHER)
    for room in (ROOM, OTHER):
        await both.subscribe(room)
    committed = [*await sandbox.commit(ROOM, count=2), *await sandbox.commit(OTHER, count=2)]
    for room in (ROOM, OTHER):
        entries = [entry(delivery) for delivery in committed if delivery.room == room]
        sandbox.relay._deliver_contiguous(sandbox.relay.rooms[room], entries)
    await both.has(4)
    assert (both.seqs, both.writes) == (seqs_of(committed) + seqs_of(committed, OTHER), 1)
    assert (one.seqs, one.writes) == (seqs_of(committed), 1)
    assert (other.seqs, other.writes) == (seqs_of(committed, OTHER), 1)


async def test_relay_ignores_unrecognized_messages(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    committed = await sandbox.commit(ROOM, count=2)
    group = group_name(ROOM, epoch=committed[0].epoch)
    garbage: list[dict[str, object]] = [{}, {"room": []}, {"room": ROOM}, {"room": ROOM, "entries": 1}]
    for message in [*garbage, {"room": ROOM, "entries": [1]}]:
        await get_channel_layer().group_send(group, message)
    await sandbox.send(committed, room=ROOM)
    await member.has(2)
    assert member.seqs == seqs_of(committed)


async def test_relay_ignores_events_of_another_log_on_the_same_redis(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    committed = await sandbox.commit(ROOM)
    await send_entries(group_name(ROOM, epoch="another"), ROOM, [(0, 99, 0.0, json.dumps({"seq": 99}).encode())])
    await sandbox.send(committed, room=ROOM)
    await sandbox.settle()
    assert member.seqs == seqs_of(committed)


async def test_reorder_buffer_is_bounded(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    first = await sandbox.commit(ROOM)
    committed = await sandbox.commit(ROOM, count=1200)
    entries = [entry(delivery) for delivery in committed if delivery.room == ROOM]
    with sandbox.paused("read_events", after_reading=False) as pause:
        await send_entries(group_name(ROOM, epoch=first[0].epoch), ROOM, entries)
        await pause.reached()
        buffered = len(sandbox.relay.rooms[ROOM].reorder_buffer)
    await member.has(1201)
    assert buffered == relay._MAX_REORDER_BUFFER_EVENTS
    assert member.seqs == seqs_of(first) + seqs_of(committed)
    assert sandbox.relay.rooms[ROOM].reorder_buffer == {}
