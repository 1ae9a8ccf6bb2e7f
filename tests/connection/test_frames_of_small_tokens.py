"""Clients with small tokens on a busy server: each frame is of a room that its client may read at that moment."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed

from tests.auth.test_policy import oracle
from tests.harness.client import Client, connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import REQUIRES_AUTH, token

SEED = 7
"""Of the simulation, whose workflows are `sim_7_1`, `sim_7_2` and so on."""

POOLS = [f"sim_pool_{number}" for number in (1, 2, 3)]
WORKERS = [f"{pool}_worker_{number}" for pool in POOLS for number in (1, 2)]
WORKFLOWS = [f"sim_{SEED}_{number}" for number in range(1, 10)]
CHANNELS = [
    *("global", "summary"),
    *(f"pool:{pool}" for pool in POOLS),
    *(f"worker:{worker}" for worker in WORKERS),
    *(f"workflow:{workflow}" for workflow in WORKFLOWS),
]
GRANTS = [
    *("global:read", "pool:read", "worker:read", "workflow:read"),
    *("pool:read:sim_pool_1", "pool:read:sim_*", "worker:read:sim_pool_2*", "worker:read:sim_pool_1_worker_1"),
    *(f"workflow:read:sim_{SEED}_1", f"workflow:read:sim_{SEED}_*", "pool:read:", "operate", "event:write:sim_*"),
]
OPTIONS: list[dict[str, Any]] = [{}, {"snapshot": True}, {"since": 0}]
CLIENTS = 200
SECONDS = 30
REQUEST_INTERVAL_SECONDS = 0.05
REFRESH_PROBABILITY = 0.1


class SmallClient:
    """A client that tries every channel, is given other permissions in between, and checks each of its frames."""

    def __init__(self, number: int) -> None:
        self.name = f"small-{number}"
        self.random = random.Random(number)
        self.permissions: Sequence[str] = ()
        self.frames = self.refusals = 0

    def some_permissions(self) -> list[str]:
        return self.random.sample(GRANTS, self.random.randint(1, 3))

    async def run(self, server: MahavishnuServer) -> None:
        self.permissions = self.some_permissions()
        headers = {"Authorization": f"Bearer {token(*self.permissions, user_id=self.name)}"}
        async with connect(server, additional_headers=headers) as client:
            reading = asyncio.create_task(self.check_frames(client))
            with suppress(ConnectionClosed):
                while not reading.done():
                    await self.send_requests(client)
                    await asyncio.sleep(REQUEST_INTERVAL_SECONDS)
            await reading

    async def send_requests(self, client: Client) -> None:
        subscribe = {"channel": self.random.choice(CHANNELS), **self.random.choice(OPTIONS)}
        await client.send({"type": "request", "event": "subscribe", "data": subscribe})
        if self.random.random() < REFRESH_PROBABILITY:
            refresh = {"token": token(*self.some_permissions(), user_id=self.name)}
            await client.send({"type": "request", "event": "refresh_token", "data": refresh})

    async def check_frames(self, client: Client) -> None:
        try:
            while True:
                message = json.loads(await client.connection.recv())
                if message["type"] == "error":
                    self.refusals += message["error_code"] == "FORBIDDEN"
                elif message["event"] == "refresh_token":
                    self.permissions = message["data"]["permissions"]
                elif (room := message.get("room")) is not None:
                    self.frames += 1
                    resource_type, _, resource_id = room.replace("summary", "global").partition(":")
                    assert oracle(list(self.permissions), "read", resource_type, resource_id or None), message
        except ConnectionClosed:
            return


@pytest.mark.chaos
async def test_client_gets_frames_only_of_rooms_that_it_may_read(start_server: StartServer) -> None:
    server = start_server(environment=REQUIRES_AUTH, max_forbidden_per_minute=1_000_000, max_connections=1000)
    small = [SmallClient(number) for number in range(CLIENTS)]
    running = [asyncio.create_task(client.run(server)) for client in small]
    options = ("--rate", "100", "--seed", str(SEED), "--duration", str(SECONDS))
    simulated = await asyncio.to_thread(server.manage, "simulate", *options)
    assert simulated.returncode == 0, simulated.stderr
    await asyncio.to_thread(server.terminate)
    await asyncio.gather(*running)
    assert sum(client.frames for client in small) > 10 * CLIENTS
    assert sum(client.refusals for client in small) > 2 * CLIENTS
