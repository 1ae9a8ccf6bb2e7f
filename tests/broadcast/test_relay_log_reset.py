"""Subscriptions are reset when the log is replaced, or pruned past what was delivered."""

from __future__ import annotations

import asyncio

import pytest
from django.core.management import call_command
from django.db import connection

from realtime.database import in_database_thread
from realtime.eventlog.epoch import renew_epoch
from realtime.models import Event
from realtime.queries import resume
from tests.broadcast.relay_sandbox import OTHER, ROOM, RelaySandbox, Subscriber, prune, seqs_of

pytestmark = pytest.mark.django_db(transaction=True)


async def test_event_after_a_pruned_gap_resets_the_subscription(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    await sandbox.commit(ROOM, count=3)
    await prune(keep=0)
    last = await sandbox.commit(ROOM)
    await sandbox.send(last, room=ROOM)
    await sandbox.until(lambda: member.was_reset)
    assert member.messages == []
    assert ROOM not in sandbox.relay.rooms


async def test_pruning_past_the_relay_resets_all_subscriptions(sandbox: RelaySandbox) -> None:
    member, elsewhere = await sandbox.member(ROOM), await sandbox.member(OTHER)
    await sandbox.commit(ROOM, count=3)
    await prune(keep=1)
    await sandbox.relay.backfill.compare_with_log()
    assert (member.messages, member.was_reset) == ([], True)
    assert elsewhere.was_reset
    assert sandbox.relay.rooms == {}
    # The reset happens once: a new subscriber starts from here.
    new_member = await sandbox.member(ROOM)
    await sandbox.relay.backfill.compare_with_log()
    committed = await sandbox.commit(ROOM)
    await sandbox.send(committed, room=ROOM)
    await new_member.has(1)
    assert (new_member.seqs, new_member.was_reset) == (seqs_of(committed), False)


async def test_pruning_does_not_affect_a_quiet_room(sandbox: RelaySandbox) -> None:
    quiet, lossy = await sandbox.member(ROOM), await sandbox.member("workflow:c")
    await sandbox.commit(OTHER, count=10)
    await sandbox.relay.backfill.compare_with_log()
    await prune(keep=2)
    await sandbox.relay.backfill.compare_with_log()
    sandbox.reads.clear()
    committed = await sandbox.commit(ROOM, "workflow:c")
    await sandbox.send(committed, room=ROOM)
    await quiet.has(1)
    assert (quiet.seqs, sandbox.reads) == (seqs_of(committed), [])
    await sandbox.relay.backfill.compare_with_log()
    assert lossy.seqs == seqs_of(committed)
    assert not quiet.was_reset and not lossy.was_reset


async def test_replay_overtaken_by_pruning_resets_the_subscription(
    sandbox: RelaySandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "REPLAY_CHUNK_EVENTS", 2)
    committed = await sandbox.commit(ROOM, count=6)
    client = Subscriber(sandbox.relay)
    with sandbox.paused("read_chunk", after_reading=False) as pause:
        subscribing = asyncio.create_task(client.subscribe(ROOM, since=0))
        await pause.reached()
        await prune(keep=1)
    response = await subscribing
    assert (response.recovered, response.missed) == (True, 6)
    assert client.seqs == seqs_of(committed)[:2]
    assert client.was_reset


async def test_new_epoch_resets_all_subscriptions(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    before = await sandbox.commit(ROOM, count=2)
    await sandbox.send(before, room=ROOM)
    await member.has(2)
    await sandbox.relay.backfill.compare_with_log()
    epoch = await in_database_thread(renew_epoch)
    await sandbox.relay.backfill.compare_with_log()
    assert member.was_reset
    # The old member is still connected, and must not keep the new one in a room of the old log.
    new_member = Subscriber(sandbox.relay)
    response = await new_member.subscribe(ROOM, since=before[0].event.seq, epoch=before[0].epoch)
    assert (response.epoch, response.recovered, response.reason) == (epoch, False, "epoch")
    await sandbox.settle()
    after = await sandbox.commit(ROOM)
    await sandbox.send(after, room=ROOM)
    await new_member.has(1)
    assert (member.seqs, new_member.seqs) == (seqs_of(before), seqs_of(after))


async def test_emptied_log_is_followed_from_its_start(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    before = await sandbox.commit(ROOM, count=5)
    await sandbox.send(before, room=ROOM)
    await member.has(5)
    await in_database_thread(_empty_log)
    await sandbox.relay.backfill.compare_with_log()
    assert member.was_reset
    new_member = await sandbox.member(ROOM)
    after = await sandbox.commit(ROOM, count=2)
    assert seqs_of(after) == [1, 2]
    await sandbox.send(after, room=ROOM)
    await new_member.has(2)
    assert new_member.seqs == [1, 2]


def _empty_log() -> None:
    call_command("flush", interactive=False, verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM sqlite_sequence")


async def test_log_behind_the_relay_resets_all_subscriptions(sandbox: RelaySandbox) -> None:
    """Reset after a failover to a database without the last events."""
    member = await sandbox.member(ROOM)
    committed = await sandbox.commit(ROOM, count=3)
    await sandbox.send(committed, room=ROOM)
    await member.has(3)
    await sandbox.relay.backfill.compare_with_log()
    await in_database_thread(Event.objects.filter(seq=committed[-1].event.seq).delete)
    await sandbox.relay.backfill.compare_with_log()
    assert member.was_reset
    assert sandbox.relay.rooms == {}


async def test_backfill_delivers_no_events_of_a_new_epoch(sandbox: RelaySandbox) -> None:
    member = await sandbox.member(ROOM)
    await sandbox.commit(ROOM, count=2)
    with sandbox.paused("read_events", after_reading=False) as pause:
        comparing = asyncio.create_task(sandbox.relay.backfill.compare_with_log())
        await pause.reached()
        await in_database_thread(renew_epoch)
        await sandbox.commit(ROOM)
    await comparing
    assert (member.messages, member.was_reset) == ([], True)
