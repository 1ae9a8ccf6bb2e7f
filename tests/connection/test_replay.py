"""Replays to live subscriptions, beside other clients, and of more events than the send queue holds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.connection.resume_requests import announce, announce_large, numbers, prune, resume
from tests.events.announcements import announce_unpublished
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.matchers import an_error, an_event
from tests.harness.server import MahavishnuServer

Unique = Callable[[str], str]


async def test_resubscribe_with_since_replays_from_there(server_on_both: MahavishnuServer, room: str) -> None:
    async with connect(server_on_both) as client:
        await client.subscribe(room)
        announce(server_on_both, room, 4)
        live = await client.events(4)
        for first in (2, 0, 4):
            data = await resume(client, room, since=live[first - 1]["seq"] if first else live[0]["seq"] - 1)
            assert (data["recovered"], data["missed"]) == (True, 4 - first)
            replayed = await client.events(4 - first)
            assert replayed == [{**event, "replay": True} for event in live[first:]]
        announce(server_on_both, room, 1)
        assert await client.next() == an_event("test", {"number": 0}, room=room)
        await client.send({"type": "ping"})
        assert (await client.next())["type"] == "pong"


async def test_resubscribe_with_since_during_live_events_leaves_no_gap(
    server_on_both: MahavishnuServer, room: str
) -> None:
    missed, meanwhile = 1000, 400
    async with connect(server_on_both) as client:
        await client.subscribe(room)
        announce(server_on_both, room, missed)
        announcing = asyncio.create_task(
            asyncio.to_thread(announce, server_on_both, room, meanwhile, per_transaction=5)
        )
        while (await client.event())["data"]["number"] != missed - 1:
            pass
        data = await resume(client, room, since=0)
        live = [message for message in client.waiting() if message["event"] == "test"]
        again = await client.events(missed + meanwhile)
        await announcing
        await client.send({"type": "ping"})
        assert (await client.next())["type"] == "pong"
    assert all(event["seq"] <= data["seq"] for event in live)
    assert numbers(again) == [*range(missed), *range(meanwhile)]
    assert [event.get("replay", False) for event in again] == [
        position < data["missed"] for position in range(missed + meanwhile)
    ]


async def test_resubscribe_without_since_changes_nothing(server: MahavishnuServer, room: str) -> None:
    announce(server, room, 2)
    async with connect(server) as client:
        await resume(client, room, since=0)
        answer = await client.subscribe(room)
        assert answer["data"] == {"status": "subscribed", "channel": room}
        assert numbers(await client.events(2)) == [0, 1]
        announce(server, room, 1)
        assert await client.next() == an_event("test", {"number": 0}, room=room)


async def test_resume_from_the_same_position_again_receives_what_was_committed_meanwhile(
    start_server: StartServer, room: str
) -> None:
    """The first one read nothing, and what it read is kept for a second."""
    server = start_server()
    announce(server, room, 1)  # Starts the process that announces, which takes longer.
    async with connect(server) as client:
        response = await client.subscribe(room, since=0)
        await client.events(response["data"]["missed"])
        position = {"since": response["data"]["seq"], "epoch": response["data"]["epoch"]}
        assert (await client.subscribe(room, **position))["data"]["missed"] == 0
        await client.unsubscribe(room)
        announce(server, room, 1)
        assert (await client.subscribe(room, **position))["data"]["missed"] == 1
        assert (await client.event())["replay"]


async def test_unsubscribe_ends_a_resumed_subscription(server: MahavishnuServer, room: str) -> None:
    announce(server, room, 2)
    async with connect(server) as client:
        await resume(client, room, since=0)
        await client.unsubscribe(room)
        assert numbers(await client.events(2)) == [0, 1]
        announce(server, room, 1)
        await client.subscribe("global")
        announce(server, room, 1)
        assert (await client.next())["room"] == "global"


async def test_replay_is_private_to_a_connection(server: MahavishnuServer, room: str) -> None:
    async with connect(server) as live, connect(server) as late:
        await live.subscribe(room)
        announce(server, room, 3)
        await resume(late, room, since=0)
        announce(server, room, 1)
        for client in (live, late):
            assert numbers(await client.events(4)) == [0, 1, 2, 0]


async def test_replay_larger_than_the_send_queue_reaches_a_client_that_reads_late(
    server: MahavishnuServer, room: str
) -> None:
    """Replay 24 MB: written at once, they would make every client a slow consumer."""
    announce_large(server, room)
    # This client reads from the socket only when the test reads, with a small buffer in between.
    async with connect(server, max_queue=1) as client:
        data = await resume(client, room, since=0)
        assert data["missed"] == 400
        await asyncio.sleep(0.5)
        assert numbers(await client.events(400)) == list(range(400))
        await client.send({"type": "ping"})
        assert (await client.next())["type"] == "pong"


async def test_replay_of_events_pruned_meanwhile_closes_with_events_trimmed(
    start_server: StartServer, room: str
) -> None:
    # Only the test prunes: on a busy machine the server would after a minute, before the subscribe.
    server = start_server(max_log_events=100, min_log_age_seconds=0, log_prune_interval_seconds=3600)
    async with connect(server) as other:
        await other.subscribe("workflow:compared")
        announce_large(server, room)
        # The relay finds this event only by polling the log. After it, the relay has read all that is pruned.
        announce_unpublished(server, "workflow:compared", 10)
        await other.event()
    async with connect(server, max_queue=1) as client:
        assert (await resume(client, room, since=0))["missed"] == 400
        # The rest of the replay waits until the client has read the first chunk.
        prune(server)
        assert (await client.wait_closed()) == (1012, "EVENTS_TRIMMED")
        *replayed, last = client.waiting()
    assert last == an_error(
        "EVENTS_TRIMMED",
        "The event log was replaced or pruned; reconnect and subscribe with `since`",
        retryable=True,
    )
    assert numbers(replayed) == list(range(len(replayed)))
    assert 0 < len(replayed) < 400
