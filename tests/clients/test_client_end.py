"""How a Python client ends: closed by its program, in a handler, or because its program has an error."""

from __future__ import annotations

import asyncio

import pytest

from mahavishnu_client import ClientClosed, ClientError, ConnectionLost, ConnectionState, Event, HistoryLost, connect
from mahavishnu_client.options import Options
from mahavishnu_client.testing import FakeServer

pytest_plugins = ["mahavishnu_client.testing.plugin"]

WITHIN_SECONDS = 10
QUICK = Options(first_retry_seconds=0.01, max_retry_seconds=0.05)


def test_invalid_url_is_rejected_by_connect() -> None:
    with pytest.raises(ValueError, match="expected ws:// or wss://"):
        connect("127.0.0.1:8690")


async def test_http_url_is_a_websocket_url(fake_server: FakeServer) -> None:
    async with (
        asyncio.timeout(WITHIN_SECONDS),
        connect(fake_server.url.replace("ws", "http"), proxy=None) as client,
    ):
        await client.wait_live()


async def test_unknown_argument_fails_every_call(fake_server: FakeServer) -> None:
    async with asyncio.timeout(WITHIN_SECONDS), connect(fake_server.url, no_such_argument=True) as client:
        runs = client.follow("wf_1")
        for wait in (client.wait_live(), client.get_pool_status("a"), anext(runs)):
            with pytest.raises(ClientError, match="no_such_argument"):
                await wait
        with pytest.raises(ClientError, match="no_such_argument"):
            client.events("global")
        assert client.state is ConnectionState.CLOSED


async def test_error_in_on_state_does_not_end_the_client(fake_server: FakeServer) -> None:
    states: asyncio.Queue[ConnectionState] = asyncio.Queue()

    def on_state(state: ConnectionState) -> None:
        states.put_nowait(state)
        raise ValueError("an error of the program")

    async with (
        asyncio.timeout(WITHIN_SECONDS),
        connect(fake_server.url, on_state=on_state, options=QUICK, proxy=None) as client,
    ):
        await client.wait_live()
        fake_server.drop()
        assert [await states.get() for _ in range(4)] == ["live", "offline", "connecting", "live"]
    assert await states.get() == "closed"


async def test_close_ends_what_waits_for_a_connection(fake_server: FakeServer) -> None:
    fake_server.stop()
    async with asyncio.timeout(WITHIN_SECONDS):
        async with connect(fake_server.url, options=QUICK, proxy=None) as client:
            waiting = asyncio.create_task(client.wait_live())
            await asyncio.sleep(0)
        with pytest.raises(ClientClosed):
            await waiting
        with pytest.raises(ClientClosed):
            await client.wait_live()
        with pytest.raises(ClientClosed):
            client.follow("wf_1")


@pytest.mark.parametrize("end", ["unsubscribe", "close"])
async def test_handler_may_end_itself(fake_server: FakeServer, end: str) -> None:
    handled: list[int] = []
    is_ended = asyncio.Event()

    async def handle(item: Event | HistoryLost) -> None:
        handled.append(item.seq)
        if end == "close":
            await client.close()
        else:
            await client.unsubscribe_from_channel("pool:a")
        is_ended.set()

    async with asyncio.timeout(WITHIN_SECONDS), connect(fake_server.url, proxy=None) as client:
        await client.subscribe_to_channel("pool:a", handle)
        others = client.events("pool:a")
        for _ in range(3):
            fake_server.emit("pool.drained", {"pool_id": "a"})
        await is_ended.wait()
        if end == "close":
            assert client.state is ConnectionState.CLOSED
        else:
            assert [(await anext(others)).seq for _ in range(3)] == [1, 2, 3]
    assert handled == [1]


async def test_closed_iterator_delivers_nothing_more(fake_server: FakeServer) -> None:
    async with asyncio.timeout(WITHIN_SECONDS), connect(fake_server.url, proxy=None) as client:
        events = await client.subscribe_to_channel("pool:a")
        for _ in range(3):
            fake_server.emit("pool.drained", {"pool_id": "a"})
        assert (await anext(events)).seq == 1
        events.close()
        assert [item async for item in events] == []


async def test_unconfirmed_subscription_fails_in_time(fake_server: FakeServer) -> None:
    fake_server.hold_answers()
    options = Options(request_timeout_seconds=0.1)
    async with asyncio.timeout(WITHIN_SECONDS), connect(fake_server.url, options=options, proxy=None) as client:
        with pytest.raises(ConnectionLost, match="No answer to subscribe"):
            await client.subscribe_to_channel("pool:a")


async def test_frequent_probes_do_not_hide_a_frozen_server(fake_server: FakeServer) -> None:
    options = Options(probe_within_seconds=0.3)
    async with asyncio.timeout(WITHIN_SECONDS), connect(fake_server.url, options=options, proxy=None) as client:
        await client.wait_live()
        fake_server.freeze()
        while client.state is ConnectionState.LIVE:
            client.probe()
            await asyncio.sleep(0.05)
        assert client.state is ConnectionState.STALE


async def test_resource_can_be_followed_again_after_an_error(fake_server: FakeServer) -> None:
    fake_server.create_workflow("wf_1", stages=["load"])
    async with asyncio.timeout(WITHIN_SECONDS), connect(fake_server.url, proxy=None) as client:
        fake_server.fail_subscribes(times=1, error_code="TOO_MANY_SUBSCRIPTIONS", retryable=False)
        failed = client.follow("wf_1")
        with pytest.raises(ClientError, match="TOO_MANY_SUBSCRIPTIONS"):
            await anext(failed)
        assert (await anext(client.follow("wf_1"))).status == "pending"


async def test_stored_position_is_for_the_first_iterator_of_a_channel(fake_server: FakeServer) -> None:
    async with asyncio.timeout(WITHIN_SECONDS), connect(fake_server.url, proxy=None) as client:
        await client.wait_live()
        start = client.position
    for _ in range(2):
        fake_server.emit("pool.drained", {"pool_id": "a"})
    async with asyncio.timeout(WITHIN_SECONDS), connect(fake_server.url, resume_from=start, proxy=None) as client:
        async with client.events("pool:a") as events:
            assert [(await anext(events)).seq for _ in range(2)] == [1, 2]
        again = await client.subscribe_to_channel("pool:a")
        fake_server.emit("pool.closed", {"pool_id": "a"})
        assert (await anext(again)).seq == 3
