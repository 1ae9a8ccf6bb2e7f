"""The Python client with a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from mahavishnu_client import Event, NotFound, RequestFailed, connect
from tests.harness.server import MahavishnuServer

WITHIN_SECONDS = 30


async def change(server: MahavishnuServer, service: str, **arguments: object) -> None:
    await asyncio.to_thread(server.services_driver.call, service, arguments)


async def test_client_delivers_the_events_of_a_channel(server: MahavishnuServer, unique: Callable[[str], str]) -> None:
    pool_id = unique("pool")
    async with asyncio.timeout(WITHIN_SECONDS), connect(server.ws_url) as client:
        events = await client.subscribe_to_channel(f"pool:{pool_id}")
        await client.wait_live()
        await change(server, "create_pool", pool_id=pool_id)
        await change(server, "drain_pool", pool_id=pool_id)
        received = [await anext(events), await anext(events)]
        assert [(item.name, item.data.pool_id) for item in received if isinstance(item, Event)] == [
            ("pool.created", pool_id),
            ("pool.drained", pool_id),
        ]
        assert (await client.get_pool_status(pool_id)).status == "draining"
        assert await client.request("get_pool_status", {"pool_id": pool_id}) == {
            "pool_id": pool_id,
            "status": "draining",
            "workers": [],
        }
        with pytest.raises(NotFound):
            await client.get_pool_status("nowhere")
        with pytest.raises(RequestFailed, match="INVALID_CHANNEL"):
            await client.subscribe_to_channel("planet:mars")
