"""The position in pongs and in `session.position`, as a client sees it."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.connection.raw_client import open_raw, request, text
from tests.connection.resume_requests import announce
from tests.harness.client import Client, connect, wait_for_relay
from tests.harness.matchers import A_TIME, A_UUID
from tests.harness.server import MahavishnuServer


async def pong(client: Client) -> Any:
    await client.send({"type": "ping", "id": "p"})
    while (message := await client.next())["type"] != "pong":
        pass
    return message["data"]


async def test_pong_has_the_position_of_live_channels(server: MahavishnuServer, room: str) -> None:
    async with connect(server) as client:
        assert await pong(client) == {}
        await client.subscribe(room)
        announce(server, room, 1)
        seq = (await client.event())["seq"]
        await wait_for_relay(server, seq)
        data = await pong(client)
        assert (data["epoch"], data["seq"] >= seq) == (client.welcome["data"]["epoch"], True)
        await client.unsubscribe(room)
        assert await pong(client) == {}
        assert client.positions == []


async def test_pong_has_no_position_while_a_subscription_begins(server: MahavishnuServer, room: str) -> None:
    announce(server, room, 1)
    async with open_raw(server.port) as client:
        await client.send(request("subscribe", channel=room))
        assert (await client.message())["type"] == "response"
        # Both arrive together, so the server reads the ping before it has read the log for the subscription.
        await client.send(request("subscribe", channel=room, since=0), text('{"type":"ping","id":"p"}'))
        received = [await client.message() for _ in range(3)]
        assert [message["event"] for message in received] == ["pong", "subscribe", "test"]
        assert received[0]["data"] == {}


async def test_client_of_several_channels_receives_its_position(server: MahavishnuServer, room: str) -> None:
    async with connect(server) as client:
        await client.subscribe(room)
        await client.subscribe(f"{room}.2")
        announce(server, room, 1)
        seq = (await client.event())["seq"]
        async with asyncio.timeout(30):
            while not client.positions or client.positions[-1]["data"]["seq"] < seq:
                await pong(client)
                await asyncio.sleep(0.05)
        assert client.positions[-1] == {
            "id": A_UUID,
            "type": "event",
            "event": "session.position",
            "data": {"seq": client.positions[-1]["data"]["seq"], "epoch": client.welcome["data"]["epoch"]},
            "timestamp": A_TIME,
        }
