"""The room `summary`: fed by the messages of `global`, and as complete as it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from realtime.broadcast import flush
from realtime.broadcast.groups import group_name
from realtime.eventlog.append import Delivery
from realtime.protocol.summary import LEFT_OUT, summarize_message
from realtime.queries import resume
from tests.broadcast.relay_sandbox import ROOM, RelaySandbox, Subscriber, seqs_of

pytestmark = pytest.mark.django_db(transaction=True)

STARTED: dict[str, Any] = {}
COMPLETED: dict[str, Any] = {"name": "workflow.completed", "data": '{"workflow_id":"a","result":{"x":1}}'}
LOGGED: dict[str, Any] = {"name": LEFT_OUT[0], "data": '{"workflow_id":"a","message":"x"}'}


def is_carried(message: dict[str, Any]) -> bool:
    return message["event"] not in LEFT_OUT


def of_global(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what `summary` makes of the messages of `global`."""
    found = [summarize_message(json.dumps(message).encode()) for message in messages]
    return [json.loads(message) for message in found if message is not None]


async def commit_mixed(sandbox: RelaySandbox) -> list[Delivery]:
    committed: list[Delivery] = []
    for event in (LOGGED, COMPLETED, LOGGED, LOGGED, COMPLETED, STARTED, LOGGED):
        committed += await sandbox.commit(ROOM, **event)
    return committed


async def test_summary_delivers_the_events_of_global_with_reduced_data(
    sandbox: RelaySandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    reduced: list[bytes] = []

    def recorded(message: bytes) -> bytes | None:
        reduced.append(message)
        return summarize_message(message)

    monkeypatch.setattr(flush, "summarize_message", recorded)
    everything, *members = [await sandbox.member(room) for room in ("global", "summary", "summary", "summary")]
    committed = await commit_mixed(sandbox)
    sandbox.reads.clear()
    await sandbox.send(committed, room="global")
    await everything.has(7)
    await sandbox.settle()
    for member in members:
        assert member.messages == of_global(everything.messages)
        assert [message["event"] for message in member.messages] == ["workflow.completed"] * 2 + ["workflow.started"]
    # Each event is reduced once, and those left out are no gap.
    assert (len(reduced), sandbox.reads) == (7, [])
    assert sandbox.relay.rooms["summary"].seq == sandbox.relay.rooms["global"].seq == committed[-1].event.seq


async def test_summary_is_backfilled_and_compared_with_the_log(sandbox: RelaySandbox) -> None:
    member = await sandbox.member("summary")
    lost = await commit_mixed(sandbox)
    later = await commit_mixed(sandbox)
    await sandbox.send(later, room="global")
    await member.has(6)
    assert member.seqs == [message["seq"] for message in member.messages if is_carried(message)]
    # Neither a lost end, nor one that is left out, is read twice.
    await commit_mixed(sandbox)
    await sandbox.relay.backfill.compare_with_log()
    await member.has(9)
    sandbox.reads.clear()
    await sandbox.relay.backfill.compare_with_log()
    assert sandbox.reads == ["_position_and_newest"]
    assert set(seqs_of(lost)) > set(member.seqs[:3])


@pytest.mark.parametrize("rooms", [["global", "summary"], ["summary", "global"]])
async def test_group_of_global_is_left_when_neither_room_is_open(sandbox: RelaySandbox, rooms: list[str]) -> None:
    group = group_name("global", epoch=sandbox.epoch)
    first, second = [await sandbox.member(room) for room in rooms]
    await first.unsubscribe(rooms[0])
    await sandbox.settle()
    assert sandbox.relay.groups._joined == {group}
    committed = await sandbox.commit(ROOM)
    await sandbox.send(committed, room="global")
    await second.has(1)
    await second.unsubscribe(rooms[1])
    await sandbox.until(lambda: not sandbox.relay.groups._joined)


async def test_replay_of_summary_equals_what_was_delivered_live(
    sandbox: RelaySandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "REPLAY_CHUNK_EVENTS", 2)
    await sandbox.catch_up()
    live = await sandbox.member("summary")
    start = sandbox.relay.rooms["summary"].seq
    for _ in range(3):
        await sandbox.send(await commit_mixed(sandbox), room="global")
    await live.has(9)
    resuming = Subscriber(sandbox.relay)
    answer = await resuming.subscribe("summary", since=start)
    assert (answer.recovered, answer.missed) == (True, 9)
    assert resuming.messages == [{**message, "replay": True} for message in live.messages]
    # Then live events follow, also if the last events of the replay were left out.
    await sandbox.send(await commit_mixed(sandbox), room="global")
    await resuming.has(12)
    assert resuming.seqs == live.seqs
