"""The JavaScript client in Node.js, with a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.javascript.node_client import node_client

Unique = Callable[[str], str]


async def change(server: MahavishnuServer, service: str, **arguments: object) -> None:
    await asyncio.to_thread(server.services_driver.call, service, arguments)


async def test_client_delivers_each_event_once_across_a_crash(start_server: StartServer) -> None:
    server = start_server()
    async with node_client(server.ws_url, firstRetryMs=50) as client:
        await client.do("events", **{"as": "a"}, channel="pool:p")
        await client.do("events", **{"as": "g"}, channel="global")
        await client.until_state("live")
        await change(server, "create_pool", pool_id="p")
        await asyncio.to_thread(server.kill)
        await change(server, "drain_pool", pool_id="p")
        await asyncio.to_thread(server.start)
        await change(server, "reopen_pool", pool_id="p")
        names = ["pool.created", "pool.drained", "pool.reopened"]
        for of in ("a", "g"):
            received = [line["event"] for line in client.lines if line.get("of") == of]
            received += [line["event"] for line in await client.of(of, 3 - len(received))]
            assert received == names
        await client.do("request", **{"as": "r"}, name="get_pool_status", data={"pool_id": "p"})
        assert (await client.of("r"))[0]["response"] == {"pool_id": "p", "status": "active", "workers": []}
        await client.do("request", **{"as": "r"}, name="get_pool_status", data={"pool_id": "nowhere"})
        assert (await client.of("r"))[0]["error"] == "NotFound"


async def test_client_follows_a_run(server: MahavishnuServer, unique: Unique) -> None:
    workflow_id = unique("wf")
    async with node_client(server.ws_url) as client:
        await client.do("follow", **{"as": "f"}, workflow_id=workflow_id)
        await client.until_state("live")
        await change(server, "create_workflow", workflow_id=workflow_id, adapter="a", prompt="p", stages=["one", "two"])
        await change(server, "start_workflow", workflow_id=workflow_id)
        await change(server, "start_stage", workflow_id=workflow_id, stage_name="one")
        await change(server, "complete_stage", workflow_id=workflow_id, stage_name="one")
        line = await client.until(lambda line: line.get("state", {}).get("stages_completed") == 1)
        assert line["is_live"] is True
        async with node_client(server.ws_url) as other:
            await other.do("follow", **{"as": "f"}, workflow_id=workflow_id)
            (snapshot,) = await other.of("f")
        assert line["state"] == snapshot["state"]
