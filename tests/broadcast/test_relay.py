"""One relay, driven step by step: what it delivers, whatever comes in between. See `tests.broadcast.relay_sandbox`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from channels.layers import get_channel_layer
from django.core.management import call_command
from django.db import connection

from realtime.broadcast import relay
from realtime.broadcast.message import group_name
from realtime.connection import handlers
from realtime.database import in_database_thread
from realtime.eventlog.append import Delivery
from realtime.eventlog.position import renew_epoch
from realtime.eventlog.retention import Retention, prune_events
from realtime.models import Event
from realtime.protocol.messages import utc_now
from realtime.queries import resume
from tests.broadcast.relay_sandbox import (
    ARRIVAL_TIMEOUT_SECONDS,
    NEVER_SECONDS,
    Stage,
    Subscriber,
    entry,
    on_stage,
    push_entries,
)
from tests.harness.valkey import Valkey

pytestmark = pytest.mark.django_db(transaction=True)

ROOM = "workflow:a"
OTHER = "workflow:b"


@pytest.fixture
async def stage(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    async with on_stage(monkeypatch) as stage:
        yield stage


def seqs_of(deliveries: list[Delivery], room: str = ROOM) -> list[int]:
    return [delivery.event.seq for delivery in deliveries if delivery.room == room]


async def prune(*, keep: int) -> None:
    retention = Retention(max_events=keep, max_age=timedelta(days=1), min_age=timedelta(0))
    await in_database_thread(prune_events, retention, at=utc_now())


# --- From the bus ----------------------------------------------------------------------------------------------------


async def test_a_push_reaches_every_subscriber_of_its_room_and_nobody_else(stage: Stage) -> None:
    one, two, elsewhere = await stage.member(ROOM), await stage.member(ROOM), await stage.member(OTHER)
    committed = await stage.commit(ROOM)
    stage.reads.clear()
    await stage.push(committed, room=ROOM)
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
    assert stage.reads == []


async def test_a_hole_is_filled_from_the_log_before_anything_after_it(stage: Stage) -> None:
    member = await stage.member(ROOM)
    committed = await stage.commit(ROOM, count=4)
    await stage.push(committed[-2:], room=ROOM)
    await member.has(4)
    await stage.settle()
    assert member.seqs == seqs_of(committed)


async def test_pushes_that_overtake_each_other_are_put_in_order_without_the_log(stage: Stage) -> None:
    member = await stage.member(ROOM)
    committed = await stage.commit(ROOM, count=3)
    stage.reads.clear()
    entries = [entry(delivery) for delivery in committed if delivery.room == ROOM]
    group = group_name(ROOM, epoch=committed[0].epoch)
    await push_entries(group, ROOM, [entries[2], entries[0], entries[1]])
    await member.has(3)
    assert (member.seqs, stage.reads) == (seqs_of(committed), [])


async def test_a_push_that_comes_twice_or_too_late_is_delivered_once(stage: Stage) -> None:
    member = await stage.member(ROOM)
    committed = await stage.commit(ROOM, count=3)
    await stage.push(committed, room=ROOM)
    await stage.push(committed, room=ROOM)
    await stage.push(reversed(committed), room=ROOM)
    await stage.settle()
    assert member.seqs == seqs_of(committed)


async def test_what_comes_in_one_turn_of_the_loop_leaves_in_one_write(stage: Stage) -> None:
    member = await stage.member(ROOM)
    committed = await stage.commit(ROOM, count=50)
    entries = [entry(delivery) for delivery in committed if delivery.room == ROOM]
    await push_entries(group_name(ROOM, epoch=committed[0].epoch), ROOM, entries)
    await member.has(50)
    assert (member.seqs, member.writes) == (seqs_of(committed), 1)


async def test_so_it_does_for_a_member_of_several_rooms(stage: Stage) -> None:
    both, one, other = Subscriber(stage.relay), await stage.member(ROOM), await stage.member(OTHER)
    for room in (ROOM, OTHER):
        await both.subscribe(room)
    committed = [*await stage.commit(ROOM, count=2), *await stage.commit(OTHER, count=2)]
    for room in (ROOM, OTHER):
        entries = [entry(delivery) for delivery in committed if delivery.room == room]
        stage.relay._deliver_contiguous(stage.relay.rooms[room], entries)
    await both.has(4)
    assert (both.seqs, both.writes) == (seqs_of(committed) + seqs_of(committed, OTHER), 1)
    assert (one.seqs, one.writes) == (seqs_of(committed), 1)
    assert (other.seqs, other.writes) == (seqs_of(committed, OTHER), 1)


async def test_a_message_on_the_bus_that_is_none_of_ours_stops_nothing(stage: Stage) -> None:
    member = await stage.member(ROOM)
    committed = await stage.commit(ROOM, count=2)
    group = group_name(ROOM, epoch=committed[0].epoch)
    garbage: list[dict[str, object]] = [{}, {"room": []}, {"room": ROOM}, {"room": ROOM, "entries": 1}]
    for message in [*garbage, {"room": ROOM, "entries": [1]}]:
        await get_channel_layer().group_send(group, message)
    await stage.push(committed, room=ROOM)
    await member.has(2)
    assert member.seqs == seqs_of(committed)


async def test_what_waits_for_a_hole_to_be_filled_is_bounded(stage: Stage) -> None:
    member = await stage.member(ROOM)
    first = await stage.commit(ROOM)
    committed = await stage.commit(ROOM, count=1200)
    entries = [entry(delivery) for delivery in committed if delivery.room == ROOM]
    with stage.paused("read_events", after_reading=False) as pause:
        await push_entries(group_name(ROOM, epoch=first[0].epoch), ROOM, entries)
        await pause.reached()
        held = len(stage.relay.rooms[ROOM].reorder_buffer)
    await member.has(1201)
    assert held == relay._MAX_REORDER_BUFFER_EVENTS
    assert member.seqs == seqs_of(first) + seqs_of(committed)
    assert stage.relay.rooms[ROOM].reorder_buffer == {}


# --- From the log ----------------------------------------------------------------------------------------------------


async def test_what_the_bus_lost_with_nothing_after_it_is_found_by_comparing(stage: Stage) -> None:
    member, all_of_it = await stage.member(ROOM), await stage.member("global")
    committed = await stage.commit(ROOM, OTHER, count=2)
    await stage.relay.compare_with_log()
    await stage.settle()
    assert (member.seqs, all_of_it.seqs) == (seqs_of(committed), seqs_of(committed))


async def test_comparing_reads_only_rooms_that_are_behind(stage: Stage) -> None:
    member = await stage.member(ROOM)
    await stage.member(OTHER)
    committed = await stage.commit(ROOM)
    await stage.push(committed, room=ROOM)
    await member.has(1)
    stage.reads.clear()
    await stage.relay.compare_with_log()
    assert stage.reads == ["_position_and_newest"]


async def test_pushes_during_a_repair_are_neither_lost_nor_doubled(stage: Stage) -> None:
    member = await stage.member(ROOM)
    first = await stage.commit(ROOM, count=2)
    with stage.paused("read_events", after_reading=True) as pause:
        comparing = asyncio.create_task(stage.relay.compare_with_log())
        await pause.reached()
        second = await stage.commit(ROOM, count=2)
        # The first of these is in what the repair has read, the second is delivered before it goes on.
        await stage.push([*first, second[0], second[1]], room=ROOM)
        await stage.settle()
    await comparing
    third = await stage.commit(ROOM)
    await stage.push(third, room=ROOM)
    await member.has(5)
    await stage.settle()
    assert member.seqs == seqs_of(first + second + third)


async def test_a_repair_that_fails_is_made_up_for(stage: Stage) -> None:
    member = await stage.member(ROOM)
    committed = await stage.commit(ROOM, count=2)
    stage.fail_next("read_events")
    with pytest.raises(OSError, match="away"):
        await stage.relay.compare_with_log()
    assert member.seqs == []
    # Nothing was written since: only the position that did not move says that something is missing.
    await stage.relay.compare_with_log()
    assert member.seqs == seqs_of(committed)


async def test_a_repair_of_many_events_reads_them_in_parts_and_in_order(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "BACKFILL_CHUNK_EVENTS", 3)
    member = await stage.member(ROOM)
    committed = await stage.commit(ROOM, OTHER, count=7)
    stage.reads.clear()
    await stage.relay.compare_with_log()
    await stage.settle()
    assert member.seqs == seqs_of(committed)
    assert stage.reads.count("read_events") == 3


async def test_many_rooms_that_are_behind_are_filled_together(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "BACKFILL_CHUNK_EVENTS", 10)
    await stage.follow_up_to_now()
    channels = [f"workflow:{number}" for number in range(20)]
    members = {channel: Subscriber(stage.relay) for channel in [*channels, "global"]}
    for channel, member in members.items():
        await member.subscribe(channel)
    await stage.settle()
    committed = []
    for number in range(25):
        committed += await stage.commit(channels[number % 20], channels[(number + 7) % 20], OTHER)
    # One of them has been given all by the bus, and one has something that waits for the hole in front of it.
    await stage.push(committed, room=channels[3])
    await stage.push([delivery for delivery in committed if delivery.room == channels[5]][-1:], room=channels[5])
    await stage.settle()
    stage.reads.clear()
    with stage.paused("read_events_with_rooms", after_reading=True) as pause:
        comparing = asyncio.create_task(stage.relay.compare_with_log())
        await pause.reached()
        later = await stage.commit(channels[0], channels[3], channels[5])
        await stage.push(committed + later, room=channels[0])
        await stage.push(later, room=channels[3])
        await stage.settle()
    await comparing
    await stage.settle()
    assert stage.reads.count("read_events_with_rooms") == 3
    for channel, member in members.items():
        assert member.seqs == seqs_of(committed + later, channel), channel


async def test_filling_many_rooms_that_fails_is_made_up_for(stage: Stage) -> None:
    await stage.follow_up_to_now()
    members = [await stage.member(ROOM), await stage.member(OTHER), await stage.member("global")]
    committed = await stage.commit(ROOM, OTHER, count=2)
    stage.fail_next("read_events_with_rooms")
    with pytest.raises(OSError, match="away"):
        await stage.relay.compare_with_log()
    await stage.relay.compare_with_log()
    await stage.settle()
    assert [member.seqs for member in members] == [seqs_of(committed)] * 3


# --- Where a subscription starts -------------------------------------------------------------------------------------


async def test_nothing_from_before_its_answer_reaches_a_subscriber_although_the_room_was_opening(stage: Stage) -> None:
    with stage.paused("_read_positions", after_reading=True) as pause:
        joining = asyncio.create_task(stage.member(ROOM))
        await pause.reached()
        # The room has read the log's position, and so must be in its group by now.
        await stage.settle()
        before = await stage.commit(ROOM)
        await stage.push(before, room=ROOM)
        await stage.until(lambda: list(stage.relay.rooms[ROOM].reorder_buffer) == seqs_of(before))
    member = await joining
    after = await stage.commit(ROOM)
    await stage.push(after, room=ROOM)
    await stage.settle()
    assert member.seqs == seqs_of(after)


async def test_rooms_that_open_together_share_their_readings_of_the_position(stage: Stage) -> None:
    stage.reads.clear()
    members = {f"workflow:{number}": Subscriber(stage.relay) for number in range(200)}
    channels = list(members)
    with stage.paused("_read_positions", after_reading=True):
        joining = [asyncio.create_task(member.subscribe(channel)) for channel, member in members.items()]
        groups = [group_name(channel, epoch=stage.epoch) for channel in channels]
        await stage.until(lambda: all(map(stage.relay.groups.has_joined, groups)))
        # One reading is held up; whoever asked since then must not be answered by it.
        meanwhile = await stage.commit(*channels)
    await asyncio.gather(*joining)
    assert stage.reads == ["_read_positions"] * 2
    starts = [stage.relay.rooms[channel].seq for channel in channels]
    assert (starts[0], set(starts[1:])) == (0, {meanwhile[0].event.seq})
    await stage.settle()
    committed = await stage.commit(*channels)
    for channel in channels:
        await stage.push(committed, room=channel)
    await stage.settle()
    await members[channels[0]].has(2)
    both = [meanwhile[0].event.seq, committed[0].event.seq]
    assert [member.seqs for member in members.values()] == [both, *[both[1:]] * 199]


async def test_a_subscriber_that_has_read_ahead_of_its_room_is_given_nothing_twice(stage: Stage) -> None:
    behind = await stage.member(ROOM)
    committed = await stage.commit(ROOM, count=3)
    ahead = Subscriber(stage.relay)
    answer = await ahead.subscribe(ROOM, since=0)
    assert (answer.recovered, answer.missed, answer.seq) == (True, 3, committed[-1].event.seq)
    assert behind.messages == []
    later = await stage.commit(ROOM)
    await stage.push(committed + later, room=ROOM)
    await behind.has(4)
    assert ahead.seqs == behind.seqs == seqs_of(committed + later)
    assert [message.get("replay") for message in ahead.messages] == [True, True, True, None]


async def test_a_subscriber_that_its_room_has_overtaken_is_given_what_lies_between(stage: Stage) -> None:
    await stage.member(ROOM)
    joining = Subscriber(stage.relay)
    with stage.paused("find_resume_point", after_reading=True) as pause:
        subscribing = asyncio.create_task(joining.subscribe(ROOM, snapshot=True))
        await pause.reached()
        between = await stage.commit(ROOM, count=2)
        await stage.push(between, room=ROOM)
        await stage.settle()
    answer = await subscribing
    later = await stage.commit(ROOM)
    await stage.push(later, room=ROOM)
    await stage.settle()
    assert answer.seq < between[0].event.seq
    assert joining.seqs == seqs_of(between + later)
    assert not any("replay" in message for message in joining.messages)


async def test_what_is_under_way_to_others_is_not_given_to_whoever_has_it_already(stage: Stage) -> None:
    first = await stage.member(ROOM)
    room = stage.relay.rooms[ROOM]
    committed = await stage.commit(ROOM)
    second = Subscriber(stage.relay)
    await stage.relay.join(ROOM, second)
    # In one turn of the loop: the event is taken, and leaves only at the turn's end.
    stage.relay._deliver_contiguous(room, [entry(committed[0])])
    assert room.activate(second, after=committed[0].event.seq)
    await first.has(1)
    await stage.settle()
    assert (first.seqs, second.seqs) == (seqs_of(committed), [])


async def test_subscribing_again_with_since_gives_every_event_once_more_and_then_each_once(stage: Stage) -> None:
    member = await stage.member(ROOM)
    first = await stage.commit(ROOM, count=2)
    await stage.push(first, room=ROOM)
    await member.has(2)
    with stage.paused("find_resume_point", after_reading=True) as pause:
        again = asyncio.create_task(member.subscribe(ROOM, since=0))
        await pause.reached()
        between = await stage.commit(ROOM)
        await stage.push(between, room=ROOM)
        await stage.settle()
        assert member.seqs == seqs_of(first), "an event came before the answer that it follows"
    await again
    later = await stage.commit(ROOM)
    await stage.push(later, room=ROOM)
    await stage.settle()
    assert member.seqs == seqs_of(first) * 2 + seqs_of(between + later)


async def test_a_replay_ends_at_the_answered_position_and_live_events_follow(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (resume, handlers):
        monkeypatch.setattr(module, "REPLAY_CHUNK_EVENTS", 2)
    committed = await stage.commit(ROOM, count=5)
    client = Subscriber(stage.relay)
    with stage.paused("read_next", after_reading=False) as pause:
        subscribing = asyncio.create_task(client.subscribe(ROOM, since=0))
        await pause.reached()
        await stage.settle()
        later = await stage.commit(ROOM, count=2)
        await stage.push(later, room=ROOM)
        await stage.settle()
    answer = await subscribing
    await stage.settle()
    assert (answer.recovered, answer.missed, answer.seq) == (True, 5, committed[-1].event.seq)
    assert client.seqs == seqs_of(committed + later)
    assert [message.get("replay") for message in client.messages] == [True] * 5 + [None] * 2


async def test_unsubscribing_ends_the_events_and_the_room(stage: Stage) -> None:
    member = await stage.member(ROOM)
    await member.unsubscribe(ROOM)
    committed = await stage.commit(ROOM)
    await stage.push(committed, room=ROOM)
    await stage.settle()
    await stage.relay.compare_with_log()
    assert member.messages == []
    assert ROOM not in stage.relay.rooms


async def test_a_subscriber_that_gives_up_while_its_room_opens_leaves_nothing_behind(stage: Stage) -> None:
    with stage.paused("_read_positions", after_reading=False) as pause:
        joining = asyncio.create_task(stage.member(ROOM))
        await pause.reached()
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining
        assert stage.relay.rooms == {}
        # Somebody else comes before the first room has gone.
        other = asyncio.create_task(stage.member(ROOM))
        await asyncio.sleep(0)
    member = await other
    committed = await stage.commit(ROOM)
    await stage.push(committed, room=ROOM)
    await member.has(1)
    assert member.seqs == seqs_of(committed)
    await member.unsubscribe(ROOM)
    await stage.settle()
    await stage.until(lambda: not stage.relay._background)
    assert stage.relay.rooms == {}
    assert not any(ROOM.replace(":", ".") in group for group in get_channel_layer().groups)


async def test_a_subscriber_that_gives_up_while_its_group_is_joined_leaves_nothing_behind(stage: Stage) -> None:
    layer = get_channel_layer()
    async with stage.relay.groups._calling:
        joining = asyncio.create_task(stage.member(ROOM))
        await stage.until(lambda: ROOM in stage.relay.rooms)
        room = stage.relay.rooms[ROOM]
        await asyncio.sleep(0)
        joining.cancel()
        with pytest.raises(asyncio.CancelledError):
            await joining
    await stage.until(lambda: not stage.relay._background)
    assert stage.relay.rooms == {}
    assert room.group not in {group.rpartition("__group__")[2] for group in layer.groups}


async def test_only_the_first_subscriber_waits_for_a_bus_that_hangs(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with on_stage(monkeypatch, publish_timeout_seconds=0.3) as stage:
        subscriber = Subscriber(stage.relay)
        (shard,) = get_channel_layer()._get_layer()._shards
        # The layer's own: whoever calls it waits behind a call that does not come back.
        async with shard._lock:
            began = time.monotonic()
            await subscriber.subscribe("workflow:0")
            assert time.monotonic() - began >= 0.3
            stage.relay.groups._timeout_seconds = NEVER_SECONDS
            async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
                for number in (1, 2):
                    await subscriber.subscribe(f"workflow:{number}")
        # Meanwhile the log serves them.
        committed = await stage.commit("workflow:2")
        await stage.relay.compare_with_log()
        await subscriber.has(1)
        assert subscriber.seqs == seqs_of(committed, "workflow:2")


async def test_a_room_that_cannot_open_is_opened_anew_by_the_next_subscriber(stage: Stage) -> None:
    stage.fail_next("_read_positions")
    with pytest.raises(OSError, match="away"):
        await stage.member(ROOM)
    assert stage.relay.rooms == {}
    member = await stage.member(ROOM)
    committed = await stage.commit(ROOM)
    await stage.push(committed, room=ROOM)
    await member.has(1)


# --- When the log does not have it any more --------------------------------------------------------------------------


async def test_an_event_after_a_pruned_one_is_not_delivered_as_if_nothing_were_missing(stage: Stage) -> None:
    member = await stage.member(ROOM)
    await stage.commit(ROOM, count=3)
    await prune(keep=0)
    last = await stage.commit(ROOM)
    await stage.push(last, room=ROOM)
    await stage.until(lambda: member.must_start_over)
    assert member.messages == []
    assert ROOM not in stage.relay.rooms


async def test_pruning_ahead_of_the_relay_is_noticed_when_it_compares(stage: Stage) -> None:
    member, elsewhere = await stage.member(ROOM), await stage.member(OTHER)
    await stage.commit(ROOM, count=3)
    await prune(keep=1)
    await stage.relay.compare_with_log()
    assert (member.messages, member.must_start_over) == ([], True)
    assert elsewhere.must_start_over
    assert stage.relay.rooms == {}
    # Not a second time: whoever comes now starts from here.
    newcomer = await stage.member(ROOM)
    await stage.relay.compare_with_log()
    committed = await stage.commit(ROOM)
    await stage.push(committed, room=ROOM)
    await newcomer.has(1)
    assert (newcomer.seqs, newcomer.must_start_over) == (seqs_of(committed), False)


async def test_pruning_costs_a_quiet_room_nothing(stage: Stage) -> None:
    quiet, lost_by_the_bus = await stage.member(ROOM), await stage.member("workflow:c")
    await stage.commit(OTHER, count=10)
    await stage.relay.compare_with_log()
    await prune(keep=2)
    await stage.relay.compare_with_log()
    stage.reads.clear()
    committed = await stage.commit(ROOM, "workflow:c")
    await stage.push(committed, room=ROOM)
    await quiet.has(1)
    assert (quiet.seqs, stage.reads) == (seqs_of(committed), [])
    await stage.relay.compare_with_log()
    assert lost_by_the_bus.seqs == seqs_of(committed)
    assert not quiet.must_start_over and not lost_by_the_bus.must_start_over


async def test_a_replay_that_pruning_overtakes_is_broken_off_not_shortened(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (resume, handlers):
        monkeypatch.setattr(module, "REPLAY_CHUNK_EVENTS", 2)
    committed = await stage.commit(ROOM, count=6)
    client = Subscriber(stage.relay)
    with stage.paused("read_next", after_reading=False) as pause:
        subscribing = asyncio.create_task(client.subscribe(ROOM, since=0))
        await pause.reached()
        await prune(keep=1)
    answer = await subscribing
    assert (answer.recovered, answer.missed) == (True, 6)
    assert client.seqs == seqs_of(committed)[:2]
    assert client.must_start_over


async def test_another_log_under_the_same_name_ends_every_subscription(stage: Stage) -> None:
    member = await stage.member(ROOM)
    before = await stage.commit(ROOM, count=2)
    await stage.push(before, room=ROOM)
    await member.has(2)
    await stage.relay.compare_with_log()
    epoch = await in_database_thread(renew_epoch)
    await stage.relay.compare_with_log()
    assert member.must_start_over
    # The old member has not gone yet, and must not keep the newcomer in a room of the old log.
    newcomer = Subscriber(stage.relay)
    answer = await newcomer.subscribe(ROOM, since=before[0].event.seq, epoch=before[0].epoch)
    assert (answer.epoch, answer.recovered, answer.reason) == (epoch, False, "epoch")
    await stage.settle()
    after = await stage.commit(ROOM)
    await stage.push(after, room=ROOM)
    await newcomer.has(1)
    assert (member.seqs, newcomer.seqs) == (seqs_of(before), seqs_of(after))


async def test_a_log_that_begins_again_is_followed_from_its_beginning(stage: Stage) -> None:
    member = await stage.member(ROOM)
    before = await stage.commit(ROOM, count=5)
    await stage.push(before, room=ROOM)
    await member.has(5)
    await in_database_thread(_begin_again)
    await stage.relay.compare_with_log()
    assert member.must_start_over
    newcomer = await stage.member(ROOM)
    after = await stage.commit(ROOM, count=2)
    assert seqs_of(after) == [1, 2]
    await stage.push(after, room=ROOM)
    await newcomer.has(2)
    assert newcomer.seqs == [1, 2]


def _begin_again() -> None:
    call_command("flush", interactive=False, verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM sqlite_sequence")


async def test_a_log_that_has_gone_back_under_its_own_name_ends_every_subscription(stage: Stage) -> None:
    """As when another database takes over that had not got the last events yet."""
    member = await stage.member(ROOM)
    committed = await stage.commit(ROOM, count=3)
    await stage.push(committed, room=ROOM)
    await member.has(3)
    await stage.relay.compare_with_log()
    await in_database_thread(Event.objects.filter(seq=committed[-1].event.seq).delete)
    await stage.relay.compare_with_log()
    assert member.must_start_over
    assert stage.relay.rooms == {}


async def test_a_repair_does_not_take_events_of_another_log(stage: Stage) -> None:
    member = await stage.member(ROOM)
    await stage.commit(ROOM, count=2)
    with stage.paused("read_events", after_reading=False) as pause:
        comparing = asyncio.create_task(stage.relay.compare_with_log())
        await pause.reached()
        await in_database_thread(renew_epoch)
        await stage.commit(ROOM)
    await comparing
    assert (member.messages, member.must_start_over) == ([], True)


async def test_events_of_a_log_that_shares_the_bus_are_not_heard(stage: Stage) -> None:
    member = await stage.member(ROOM)
    committed = await stage.commit(ROOM)
    await push_entries(group_name(ROOM, epoch="another"), ROOM, [(0, 99, 0.0, json.dumps({"seq": 99}).encode())])
    await stage.push(committed, room=ROOM)
    await stage.settle()
    assert member.seqs == seqs_of(committed)
