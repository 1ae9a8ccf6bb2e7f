"""Subscribing from a position: missed events are replayed in order before live ones, or the reason is given."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from realtime.protocol.requests import MAX_SEQ
from tests.connection.resume_requests import announce, newest_seq, numbers, prune, resume
from tests.harness.client import connect, wait_for_relay
from tests.harness.fixtures import StartServer
from tests.harness.matchers import an_event
from tests.harness.server import MahavishnuServer

Unique = Callable[[str], str]


async def test_resume_replays_missed_events_in_order_before_live_events(
    server_on_both: MahavishnuServer, room: str
) -> None:
    announce(server_on_both, room, 3)
    async with connect(server_on_both) as client:
        epoch, seq = client.welcome["data"]["epoch"], await newest_seq(client)
        live = await resume(client, room, since=0)
        assert live == {
            "status": "subscribed",
            "channel": room,
            "seq": live["seq"],
            "epoch": epoch,
            "recovered": True,
            "missed": 3,
        }
        replayed = await client.events(3)
        assert live["seq"] == seq
        announce(server_on_both, room, 2)
        followed = await client.events(2)
    assert replayed == [
        {**an_event("test", {"number": number}, room=room, replay=True), "seq": replayed[0]["seq"] + number}
        for number in range(3)
    ]
    assert replayed[-1]["seq"] <= live["seq"] < followed[0]["seq"]
    assert followed == [an_event("test", {"number": number}, room=room) for number in range(2)]


async def test_reconnected_client_receives_every_event_once(server_on_both: MahavishnuServer, room: str) -> None:
    async with connect(server_on_both) as client:
        await client.subscribe(room)
        announce(server_on_both, room, 2)
        received = await client.events(2)
    announce(server_on_both, room, 3)
    async with connect(server_on_both) as client:
        data = await resume(client, room, since=received[-1]["seq"], epoch=client.welcome["data"]["epoch"])
        assert (data["recovered"], data["missed"]) == (True, 3)
        received += await client.events(3)
        announce(server_on_both, room, 1)
        received.append(await client.event())
    assert numbers(received) == [0, 1, 0, 1, 2, 0]
    assert [event.get("replay") for event in received] == [None, None, True, True, True, None]
    seqs = [event["seq"] for event in received]
    assert seqs == sorted(set(seqs))


async def test_resume_replays_the_global_channel(server_on_both: MahavishnuServer, room: str) -> None:
    async with connect(server_on_both) as client:
        seq = await newest_seq(client)
        announce(server_on_both, room, 3)
        data = await resume(client, "global", since=seq)
        assert (data["recovered"], data["missed"]) == (True, 3)
        assert await client.events(3) == [
            an_event("test", {"number": number}, room="global", replay=True) for number in range(3)
        ]


async def test_resume_from_the_newest_position_is_live_at_once(server_on_both: MahavishnuServer, room: str) -> None:
    announce(server_on_both, room, 1)
    async with connect(server_on_both) as client:
        seq = await newest_seq(client)
        data = await resume(client, room, since=seq)
        assert (data["recovered"], data["missed"], data["seq"]) == (True, 0, seq)
        announce(server_on_both, room, 1)
        assert await client.next() == an_event("test", {"number": 0}, room=room)


async def test_replay_of_many_chunks_is_complete_while_events_are_added(
    server_on_both: MahavishnuServer, room: str
) -> None:
    """Add a thousand events in small transactions while two thousand missed ones are replayed."""
    missed, meanwhile = 2000, 1000
    announce(server_on_both, room, missed)
    async with connect(server_on_both) as client:
        announcing = asyncio.create_task(
            asyncio.to_thread(announce, server_on_both, room, meanwhile, per_transaction=20)
        )
        data = await resume(client, room, since=0)
        assert data["recovered"]
        assert missed <= data["missed"] <= missed + meanwhile
        events = await client.events(missed + meanwhile)
        await announcing
    assert numbers(events) == [*range(missed), *range(meanwhile)]
    assert [event["seq"] <= data["seq"] for event in events] == [event.get("replay", False) for event in events]
    assert sum(event.get("replay", False) for event in events) == data["missed"]


async def test_concurrent_resumes_of_a_dozen_channels_each_replay(server: MahavishnuServer, unique: Unique) -> None:
    rooms = [f"workflow:{unique('wf')}" for _ in range(12)]
    for room in rooms:
        announce(server, room, 3)
    async with connect(server) as client:
        for room in rooms:
            await client.send(
                {"type": "request", "event": "subscribe", "data": {"channel": room, "since": 0}, "id": room}
            )
        messages = [await client.next() for _ in range(12 * 4)]
    for room in rooms:
        of_room = [message for message in messages if room in (message.get("correlation_id"), message.get("room"))]
        assert [message["type"] for message in of_room] == ["response", "event", "event", "event"]
        assert of_room[0]["data"]["missed"] == 3
        assert numbers(of_room[1:]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"since": 0, "epoch": "another"}, "epoch"),
        ({"since": 0, "epoch": ""}, "epoch"),
        ({"since": MAX_SEQ}, "ahead"),
        # The epoch is checked first: a position means nothing in another log.
        ({"since": MAX_SEQ, "epoch": "another"}, "epoch"),
    ],
)
async def test_resume_from_another_epoch_or_a_future_position_is_not_recovered(
    server_on_both: MahavishnuServer, room: str, options: dict[str, Any], reason: str
) -> None:
    announce(server_on_both, room, 1)
    async with connect(server_on_both) as client:
        data = await resume(client, room, **options)
        assert (data["recovered"], data["missed"], data["reason"]) == (False, 0, reason)
        announce(server_on_both, room, 1)
        event = await client.next()
    assert event == an_event("test", {"number": 0}, room=room)
    assert event["seq"] > data["seq"]


async def test_resume_from_after_the_newest_position_is_ahead(server_on_both: MahavishnuServer, room: str) -> None:
    async with connect(server_on_both) as client:
        seq = await newest_seq(client)
        assert (await resume(client, room, since=seq))["recovered"] is True
        data = await resume(client, room, since=seq + 1)
        assert (data["recovered"], data["missed"], data["reason"], data["seq"]) == (False, 0, "ahead", seq)


@pytest.fixture(scope="module")
def small_server(start_module_server: StartServer) -> MahavishnuServer:
    """Start a server that replays at most ten events and prunes all but the newest hundred."""
    return start_module_server(
        max_replay_events=10, max_log_events=100, min_log_age_seconds=0, log_prune_interval_seconds=3600
    )


async def test_replay_limit_allows_ten_events_and_replays_none_of_eleven(
    small_server: MahavishnuServer, room: str
) -> None:
    async with connect(small_server) as client:
        seq = await newest_seq(client)
        announce(small_server, room, 11)
        data = await resume(client, room, since=seq)
        assert (data["recovered"], data["missed"], data["reason"]) == (False, 0, "limit")
        data = await resume(client, room, since=seq + 1)
        assert (data["recovered"], data["missed"]) == (True, 10)
        assert numbers(await client.events(10)) == list(range(1, 11))


async def test_resume_from_before_the_pruned_events_is_trimmed(small_server: MahavishnuServer, room: str) -> None:
    announce(small_server, room, 150)
    async with connect(small_server) as client:
        newest = await newest_seq(client)
    await wait_for_relay(small_server, newest)
    prune(small_server)
    async with connect(small_server) as client:
        kept_from = newest - 100
        data = await resume(client, "pool:quiet", since=kept_from - 1)
        assert (data["recovered"], data["missed"], data["reason"]) == (False, 0, "trimmed")
        data = await resume(client, "pool:quiet", since=kept_from)
        assert (data["recovered"], data["missed"]) == (True, 0)


async def test_new_epoch_closes_subscribers_and_is_not_recovered_from(
    small_server: MahavishnuServer, room: str
) -> None:
    async with connect(small_server) as client:
        old = client.welcome["data"]
        await client.subscribe(room)
        small_server.services_driver.execute("from realtime.eventlog.epoch import renew_epoch\nrenew_epoch()")
        assert (await client.next())["error_code"] == "EVENTS_TRIMMED"
        assert await client.wait_closed() == (1012, "EVENTS_TRIMMED")
    async with connect(small_server) as client:
        assert client.welcome["data"]["epoch"] != old["epoch"]
        data = await resume(client, room, since=old["seq"], epoch=old["epoch"])
        assert (data["recovered"], data["reason"]) == (False, "epoch")
        assert data["epoch"] == client.welcome["data"]["epoch"]
