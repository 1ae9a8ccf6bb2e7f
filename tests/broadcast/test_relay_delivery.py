"""Group messages reach the subscribers of their room: once, in order and without gaps. See `relay_sandbox`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from channels.layers import get_channel_layer
from django.conf import settings
from redis.asyncio import Redis

from realtime.broadcast import relay
from realtime.broadcast.envelope import MAC_BYTES, Entry, GroupMessage, seal
from realtime.broadcast.groups import group_name
from realtime.eventlog.append import Delivery
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
    await send_entries(committed[0], ROOM, [entries[2], entries[0], entries[1]])
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
    await send_entries(committed[0], ROOM, entries)
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


FORGED_SEQ = 2**62


def forgeries(log: Delivery) -> dict[str, Any]:
    """Return what a neighbour on the same Redis could publish who knows the epoch, and has seen real messages."""
    forged: list[Entry] = [(0, FORGED_SEQ, 0.0, json.dumps({"seq": FORGED_SEQ}).encode())]
    sealed = seal(GroupMessage(ROOM, [entry(log)]), bus_key=log.bus_key)
    body: bytes = sealed["sealed"][MAC_BYTES:]
    return {
        "nothing": {},
        "another message": {"room": ROOM, "entries": forged},
        "text instead of bytes": {"sealed": "x"},
        "no bytes": {"sealed": b""},
        "a guessed key": seal(GroupMessage(ROOM, forged), bus_key="0" * 64),
        "the epoch as the key": seal(GroupMessage(ROOM, forged), bus_key=log.epoch),
        "a changed message": {"sealed": sealed["sealed"][:-1] + b"?"},
        "a message without its code": {"sealed": body},
        "a sealed message of another version": seal([ROOM, forged, 1], bus_key=log.bus_key),  # type: ignore[arg-type]
    }


async def test_relay_ignores_messages_that_are_not_sealed_with_its_key(
    sandbox: RelaySandbox, caplog: pytest.LogCaptureFixture
) -> None:
    member = await sandbox.member(ROOM)
    committed = await sandbox.commit(ROOM, count=2)
    group, layer = group_name(ROOM, epoch=committed[0].epoch), get_channel_layer()
    forged = forgeries(committed[0])
    for message in forged.values():
        await layer.group_send(group, message)
    redis = Redis.from_url(settings.MAHAVISHNU_REDIS_URLS[0])
    try:
        for garbage in (b"", b"x", b"{}", b"\xc1", b"x" * 4 * 1024 * 1024):
            assert await redis.publish(layer._get_layer()._get_group_channel_name(group), garbage) >= 1
    finally:
        await redis.aclose()
    await sandbox.send(committed, room=ROOM)
    await member.has(2)
    assert member.seqs == seqs_of(committed)
    assert sandbox.relay.rooms[ROOM].seq < FORGED_SEQ
    # One line for all of them.
    assert caplog.messages == ["Ignored a message in the channel layer: not a sealed message"]


async def test_relay_resets_subscriptions_that_got_an_event_the_log_does_not_have(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    committed = await sandbox.commit(ROOM, count=2)
    # Only a process of this installation can send this: one whose database was restored, or that has a fault.
    await send_entries(committed[0], ROOM, [(0, FORGED_SEQ, 0.0, json.dumps({"seq": FORGED_SEQ}).encode())])
    await member.has(1)
    await sandbox.relay.backfill.compare_with_log()
    assert member.was_reset
    again = await sandbox.member(ROOM)
    later = await sandbox.commit(ROOM)
    await sandbox.send(later, room=ROOM)
    await again.has(1)
    assert again.seqs == seqs_of(later)


async def test_relay_ignores_events_of_another_log_on_the_same_redis(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    committed = await sandbox.commit(ROOM)
    await send_entries(replace(committed[0], epoch="another"), ROOM, [(0, 99, 0.0, json.dumps({"seq": 99}).encode())])
    await sandbox.send(committed, room=ROOM)
    await sandbox.settle()
    assert member.seqs == seqs_of(committed)


async def test_reorder_buffer_is_bounded(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    first = await sandbox.commit(ROOM)
    committed = await sandbox.commit(ROOM, count=1200)
    entries = [entry(delivery) for delivery in committed if delivery.room == ROOM]
    with sandbox.paused("read_events", after_reading=False) as pause:
        await send_entries(first[0], ROOM, entries)
        await pause.reached()
        buffered = len(sandbox.relay.rooms[ROOM].reorder_buffer)
    await member.has(1201)
    assert buffered == relay._MAX_REORDER_BUFFER_EVENTS
    assert member.seqs == seqs_of(first) + seqs_of(committed)
    assert sandbox.relay.rooms[ROOM].reorder_buffer == {}
