"""The Python client with a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from mahavishnu_client import Event, HistoryLost, NotFound, Options, RequestFailed, connect
from mahavishnu_client.testing import FakeServer
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import eventually

pytest_plugins = ["mahavishnu_client.testing.plugin"]

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


async def test_iterator_that_ends_before_its_answer_unsubscribes(fake_server: FakeServer) -> None:
    async with asyncio.timeout(WITHIN_SECONDS), connect(fake_server.url, proxy=None) as client:
        await client.wait_live()
        client.events("pool:a").close()
        await asyncio.to_thread(fake_server.wait_request, "unsubscribe")
        again = await client.subscribe_to_channel("pool:a")
        fake_server.emit("pool.drained", {"pool_id": "a"})
        assert (await anext(again)).seq == 1


async def test_abandoned_iterators_unsubscribe(fake_server: FakeServer) -> None:
    fake_server.create_workflow("wf_1", stages=["load"])
    async with asyncio.timeout(WITHIN_SECONDS), connect(fake_server.url, proxy=None) as client:
        async for _ in client.follow("wf_1"):
            break
        await asyncio.to_thread(fake_server.wait_request, "unsubscribe")


async def test_handlers_run_in_order_and_may_use_the_client(fake_server: FakeServer) -> None:
    fake_server.create_workflow("wf_1", stages=["load"])
    handled: list[tuple[int, str]] = []
    is_done = asyncio.Event()

    async def handle(item: Event | HistoryLost) -> None:
        handled.append((item.seq, (await client.get_workflow_status("wf_1")).status))
        if len(handled) == 2:
            raise ValueError("a handler that fails")
        if len(handled) == 3:
            is_done.set()

    async with asyncio.timeout(WITHIN_SECONDS), connect(fake_server.url, proxy=None) as client:
        await client.subscribe_to_channel("pool:a", handle)
        for _ in range(3):
            fake_server.emit("pool.drained", {"pool_id": "a"})
        await is_done.wait()
        await client.unsubscribe_from_channel("pool:a")
        assert handled == [(seq, "pending") for seq in (2, 3, 4)]


async def test_history_is_shared_with_an_iterator_that_starts_earlier(fake_server: FakeServer) -> None:
    async with asyncio.timeout(WITHIN_SECONDS), connect(fake_server.url, proxy=None) as client:
        live = await client.subscribe_to_channel("pool:a")
        start = client.position
        for _ in range(3):
            fake_server.emit("pool.drained", {"pool_id": "a"})
        assert [(await anext(live)).seq for _ in range(3)] == [1, 2, 3]
        earlier = client.events("pool:a", resume_from=start)
        assert [(await anext(earlier)).seq for _ in range(3)] == [1, 2, 3]
        fake_server.trim()
        stale = client.events("pool:a", resume_from=start)
        lost = await anext(stale)
        assert isinstance(lost, HistoryLost)
        assert lost.reason == "trimmed"
        fake_server.emit("pool.closed", {"pool_id": "a"})
        assert [(await anext(stream)).seq for stream in (live, earlier, stale)] == [4, 4, 4]


async def test_requests_keep_to_the_rate_of_the_server(fake_server: FakeServer) -> None:
    fake_server.limit_messages(per_second=1000, burst=10)
    fake_server.create_workflow("wf_1", stages=["load"])
    async with asyncio.timeout(WITHIN_SECONDS), connect(fake_server.url, proxy=None) as client:
        await client.wait_live()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.gather(*(client.get_workflow_status("wf_1") for _ in range(108)))
        # A burst of 8, and 100 more at 800 a second.
        assert loop.time() - began >= 0.12


async def test_frozen_server_is_stale_until_the_client_has_connected_again(fake_server: FakeServer) -> None:
    states: asyncio.Queue[str] = asyncio.Queue()
    quick = Options(ping_after_seconds=0.1, pong_within_seconds=0.1, max_retry_seconds=0.1)
    async with (
        asyncio.timeout(WITHIN_SECONDS),
        connect(fake_server.url, proxy=None, on_state=states.put_nowait, options=quick) as client,
    ):
        await client.wait_live()
        assert await states.get() == "live"
        fake_server.freeze()
        assert await states.get() == "stale"
        fake_server.thaw()
        await client.wait_live()


STORE_WAIT = """
from django.utils import timezone
from orchestration.models import Stage, Wait
stage = Stage.objects.get(workflow_id=workflow_id)
asked = {"kind": "ask", "recipients": "group:ops", "opened_at": timezone.now()}
Wait.objects.create(workflow_id=workflow_id, stage=stage, name="load", **asked)
"""


async def test_every_request_of_a_real_server_has_a_typed_response(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    pool_id, worker_id, workflow_id = unique("pool"), unique("worker"), unique("wf")
    await change(server, "create_pool", pool_id=pool_id)
    await change(server, "register_worker", worker_id=worker_id, pool_id=pool_id)
    new: dict[str, object] = {"adapter": "python", "prompt": "Write", "stages": ["load"], "pool_id": pool_id}
    await change(server, "create_workflow", workflow_id=workflow_id, **new)
    await asyncio.to_thread(server.services_driver.execute, STORE_WAIT, workflow_id=workflow_id)
    async with asyncio.timeout(WITHIN_SECONDS), connect(server.ws_url, proxy=None) as client:
        listed = await client.list_workflows(pool_id=pool_id, counts=True)
        assert [(run.workflow_id, run.prompt) for run in listed.workflows] == [(workflow_id, "Write")]
        assert listed.counts == {"pending": 1}
        assert (await client.get_workflow(workflow_id)).workflow.stages == (
            await client.list_stages(workflow_id)
        ).stages
        assert [worker.pool_id for worker in (await client.list_workers(pool_id=pool_id)).workers] == [pool_id]
        assert pool_id in {pool.pool_id for pool in (await client.list_pools(status="active", limit=200)).pools}
        assert not (await client.list_stages(workflow_id, item_of="load")).stages
        result = await client.get_stage_result(workflow_id, "load")
        assert (result.status, result.attempt, result.result, result.size_bytes) == ("pending", 0, None, 4)
        (wait,) = (await client.list_waits(workflow_id=workflow_id, to=["group:ops", "user:ada"])).waits
        assert (wait.stage_name, wait.kind, wait.recipients, wait.answered_at) == ("load", "ask", ("group:ops",), None)
        page = await client.list_events(f"workflow:{workflow_id}", names=["workflow.created"])
        assert [event.event for event in page.events] == ["workflow.created"]
        assert (await client.get_server_status()).protocol_version == 1
        assert (await client.get_pool_history(pool_id)).step_seconds >= 10
        assert (await client.list_definitions()).definitions is not None


async def test_one_position_is_kept_for_all_channels_of_a_real_server(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    quiet_id, busy_id = unique("pool"), unique("pool")
    async with asyncio.timeout(WITHIN_SECONDS), connect(server.ws_url, proxy=None) as client:
        quiet = await client.subscribe_to_channel(f"pool:{quiet_id}")
        overview = client.overview()
        busy = await client.subscribe_to_channel(f"pool:{busy_id}")
        await change(server, "create_pool", pool_id=busy_id)
        created = await anext(busy)
        while busy_id not in {pool.pool_id for pool in (await anext(overview)).pools}:
            pass
        waiting = asyncio.create_task(anext(busy))
        # The server reports the position of all channels within a second: the quiet one has no event.
        await eventually(lambda: client.position is not None and client.position.seq >= created.seq)
        waiting.cancel()
        quiet.close()


async def test_state_is_not_live_while_the_server_has_ended_its_subscription(fake_server: FakeServer) -> None:
    fake_server.create_workflow("wf_1", stages=["load"])
    async with asyncio.timeout(WITHIN_SECONDS), connect(fake_server.url, proxy=None) as client:
        runs = client.follow("wf_1")
        assert (await anext(runs)).is_live
        position = client.position
        fake_server.fail_subscribes(times=1, error_code="SERVER_ERROR", retry_after_ms=500)
        change = asyncio.create_task(anext(runs))
        await asyncio.sleep(0)
        client.events("workflow:wf_1", resume_from=position)
        assert not (await change).is_live
        assert (await anext(runs)).is_live


async def test_fake_server_rejects_what_a_real_one_does(fake_server: FakeServer) -> None:
    async with asyncio.timeout(WITHIN_SECONDS), connect(fake_server.url, proxy=None) as client:
        with pytest.raises(RequestFailed, match="INVALID_CHANNEL"):
            await anext(client.follow("not an id"))
        streams = [await client.subscribe_to_channel(f"pool:{number}") for number in range(128)]
        with pytest.raises(RequestFailed, match="TOO_MANY_SUBSCRIPTIONS"):
            await client.subscribe_to_channel("pool:128")
        streams[0].close()
        await asyncio.to_thread(fake_server.wait_request, "unsubscribe")
        await client.subscribe_to_channel("pool:128")
