"""The position that is sent to a connection: every event of its channels up to it was written before."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from realtime.broadcast import position_notices
from realtime.broadcast.envelope import GroupMessage
from realtime.connection.dispatcher import RequestDispatcher
from realtime.protocol.decoder import Incoming
from realtime.protocol.requests import Subscribe, Unsubscribe
from realtime.protocol.session import encode_session_position
from tests.broadcast.relay_sandbox import OTHER, ROOM, RelaySandbox, Subscriber, entry, seqs_of

pytestmark = pytest.mark.django_db(transaction=True)

NOTICE = "session.position"


class Client:
    """A connection with the requests of a client, answered as those of a real one."""

    def __init__(self, sandbox: RelaySandbox) -> None:
        self.sandbox = sandbox
        self.connection = Subscriber(sandbox.relay)
        self.dispatcher = RequestDispatcher(self.connection)

    def start(self, channel: str, **options: Any) -> None:
        request = Subscribe(channel=channel, **options)
        self.dispatcher.dispatch(Incoming(request=request, event="subscribe", correlation_id=None), request)

    async def subscribe(self, *channels: str) -> None:
        for channel in channels:
            self.start(channel)
        await self.sandbox.until(lambda: not self.dispatcher.is_subscribing)

    async def unsubscribe(self, channel: str) -> None:
        request = Unsubscribe(channel=channel)
        self.dispatcher.dispatch(Incoming(request=request, event="unsubscribe", correlation_id=None), request)
        await self.sandbox.until(lambda: channel not in self.connection.channels)

    @property
    def received(self) -> list[Any]:
        """Return events as their seq, and notices as the seq in a list, in the order in which they were written."""
        return [
            [message["data"]["seq"]] if message["event"] == NOTICE else message["seq"]
            for message in self.connection.messages
            if message["type"] == "event"
        ]


async def send_notices(sandbox: RelaySandbox) -> None:
    """Send the notices that are due, as if a second had passed."""
    sandbox.relay.position_notices._due_at = 0
    await sandbox.relay.position_notices.send_due()


async def client_of(sandbox: RelaySandbox, *channels: str) -> Client:
    """Return a client that is subscribed to channels and was sent the first notice."""
    client = Client(sandbox)
    await client.subscribe(*channels)
    await sandbox.settle()
    await send_notices(sandbox)
    client.connection.messages.clear()
    return client


async def test_position_is_sent_to_connections_with_several_channels_when_it_has_moved(sandbox: RelaySandbox) -> None:
    several, one, none = [await client_of(sandbox, *channels) for channels in ([ROOM, OTHER], [ROOM], [])]
    committed = await sandbox.commit(ROOM)
    await sandbox.relay.backfill.compare_with_log()
    for _ in range(3):
        await send_notices(sandbox)
    (seq,) = seqs_of(committed)
    assert (several.received, one.received, none.received) == ([seq, [seq]], [seq], [])
    (notice,) = [message for message in several.connection.messages if message["event"] == NOTICE]
    assert (notice["data"], "seq" in notice, "room" in notice) == ({"seq": seq, "epoch": sandbox.epoch}, False, False)
    await several.unsubscribe(OTHER)
    await sandbox.commit(OTHER)
    await sandbox.relay.backfill.compare_with_log()
    await send_notices(sandbox)
    assert several.received == [seq, [seq]]


async def test_position_does_not_pass_events_that_are_not_delivered(sandbox: RelaySandbox) -> None:
    client = await client_of(sandbox, ROOM, OTHER)
    lost, arrived = await sandbox.commit(OTHER), await sandbox.commit(ROOM)
    await sandbox.send(arrived, room=ROOM)
    await client.connection.has(1)
    # One room is ahead of the other: the position is that of the last comparison.
    await send_notices(sandbox)
    assert client.received == seqs_of(arrived)
    sandbox.fail_next("read_events")
    with pytest.raises(OSError, match="unavailable"):
        await sandbox.relay.backfill.compare_with_log()
    await send_notices(sandbox)
    assert client.received == seqs_of(arrived)
    await sandbox.relay.backfill.compare_with_log()
    await send_notices(sandbox)
    assert client.received == [*seqs_of(arrived), *seqs_of(lost, OTHER), seqs_of(arrived)]


async def test_position_follows_events_delivered_in_the_same_turn(sandbox: RelaySandbox) -> None:
    client = await client_of(sandbox, ROOM, OTHER)
    committed = await sandbox.commit(ROOM, count=2)
    with sandbox.paused("_position_and_newest", after_reading=True) as pause:
        comparing = asyncio.create_task(sandbox.relay.backfill.compare_with_log())
        await pause.reached()
        entries = [entry(delivery) for delivery in committed if delivery.room == ROOM]
        sandbox.relay._on_group_message(GroupMessage(ROOM, entries))
    await comparing
    # Nothing is written before the end of the turn.
    later = await sandbox.commit(ROOM)
    sandbox.relay._on_group_message(GroupMessage(ROOM, [entry(later[0])]))
    assert client.received == seqs_of(committed)
    await send_notices(sandbox)
    assert client.received == [*seqs_of(committed), *seqs_of(later), [seqs_of(committed)[-1]]]


async def test_position_is_withheld_until_every_subscription_is_live(sandbox: RelaySandbox) -> None:
    client = await client_of(sandbox, ROOM, OTHER)
    missed = await sandbox.commit("workflow:c", count=2)
    with sandbox.paused("find_resume_point", after_reading=True) as pause:
        client.start("workflow:c", since=missed[0].event.seq - 1)
        client.start("workflow:d")
        await pause.reached()
        await sandbox.relay.backfill.compare_with_log()
        await send_notices(sandbox)
        assert (client.received, client.dispatcher.is_subscribing) == ([], True)
    await sandbox.until(lambda: not client.dispatcher.is_subscribing)
    # The position has not moved since, but it includes two more channels now.
    await send_notices(sandbox)
    seqs = seqs_of(missed, "workflow:c")
    assert client.received == [*seqs, [seqs[-1]]]


async def test_subscription_that_begins_during_a_round_withholds_the_position(
    sandbox: RelaySandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(position_notices, "_NOTICES_PER_TURN", 1)
    first, second, third = [await client_of(sandbox, ROOM, OTHER) for _ in range(3)]
    await sandbox.catch_up()
    write = first.connection.write

    def write_and_start(frames: Any) -> None:
        write(frames)
        second.start("workflow:c")
        asyncio.get_running_loop().call_soon(third.connection.channels.clear)
        sandbox.relay.position_notices.remove(third.connection)

    monkeypatch.setattr(first.connection, "write", write_and_start)
    await send_notices(sandbox)
    assert (len(first.received), second.received, third.received) == (1, [], [])


async def test_position_is_encoded_once_for_all_connections_and_at_most_once_a_second(
    sandbox: RelaySandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[int] = []

    def recorded(*, seq: int, epoch: str) -> bytes:
        encoded.append(seq)
        return encode_session_position(seq=seq, epoch=epoch)

    clients = [await client_of(sandbox, ROOM, OTHER) for _ in range(5)]
    monkeypatch.setattr(position_notices, "encode_session_position", recorded)
    for _ in range(3):
        await sandbox.catch_up()
        await sandbox.relay.position_notices.send_due()
    assert encoded == []  # The last round was just now.
    await send_notices(sandbox)
    assert [client.received for client in clients] == [[encoded]] * 5
    due_at = sandbox.relay.position_notices._due_at
    assert 0 < due_at - asyncio.get_running_loop().time() <= position_notices.INTERVAL_SECONDS
