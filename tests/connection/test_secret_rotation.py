"""A secret that is replaced by restarting one process after another, while a thousand clients stay or come back."""

from __future__ import annotations

import asyncio

import pytest
from websockets.exceptions import ConnectionClosed, WebSocketException

from tests.auth.token_signing import OTHER_SECRET, SECRET
from tests.harness.client import Client, connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import token
from tests.harness.waiting import eventually

CLIENTS = 1000
NEW_SECRET = OTHER_SECRET


class Reconnecting:
    """A client that connects to one server after the other, and notes every refused token."""

    refused: int = 0
    connected: int = 0

    def __init__(self, number: int, servers: list[MahavishnuServer], value: str) -> None:
        self.number = number
        self.servers = servers
        self.value = value

    async def run(self) -> None:
        attempt = self.number
        while True:
            attempt += 1
            headers = {"Authorization": f"Bearer {self.value}"}
            try:
                async with connect(self.servers[attempt % 2], additional_headers=headers) as client:
                    await self._stay(client)
            except (OSError, WebSocketException, TimeoutError):
                await asyncio.sleep(0.2)

    async def _stay(self, client: Client) -> None:
        if client.welcome["event"] != "session.created":
            type(self).refused += client.welcome.get("error_code") in ("AUTH_FAILED", "AUTH_REQUIRED")
            return
        type(self).connected += 1
        try:
            await client.connection.wait_closed()
        except ConnectionClosed:
            pass
        finally:
            type(self).connected -= 1


@pytest.mark.chaos
async def test_secret_is_replaced_by_restarting_one_process_at_a_time(start_server: StartServer) -> None:
    environment = {"MAHAVISHNU_REQUIRE_AUTH": "1", "MAHAVISHNU_JWT_SECRET": SECRET}
    first = start_server(environment=environment, max_connections=2 * CLIENTS)
    second = start_server(beside=first, environment=environment, max_connections=2 * CLIENTS)
    servers = [first, second]
    old = [Reconnecting(number, servers, token("admin")) for number in range(CLIENTS // 2)]
    tasks = [asyncio.create_task(client.run()) for client in old]
    await _all_connected(CLIENTS // 2)
    # First both verify with both secrets; only then is anything signed with the new one.
    for server in servers:
        server.environment |= {"MAHAVISHNU_JWT_SECRET": SECRET, "MAHAVISHNU_JWT_SECRET_PREVIOUS": NEW_SECRET}
        await asyncio.to_thread(server.restart)
        await _all_connected(CLIENTS // 2)
    new = [Reconnecting(number, servers, token("admin", secret=NEW_SECRET)) for number in range(CLIENTS // 2)]
    tasks += [asyncio.create_task(client.run()) for client in new]
    await _all_connected(CLIENTS)
    for server in servers:
        server.environment |= {"MAHAVISHNU_JWT_SECRET": NEW_SECRET, "MAHAVISHNU_JWT_SECRET_PREVIOUS": SECRET}
        await asyncio.to_thread(server.restart)
        await _all_connected(CLIENTS)
    assert Reconnecting.refused == 0
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _all_connected(count: int) -> None:
    await eventually(lambda: Reconnecting.connected >= count, within_seconds=120, what=f"{count} connections")
