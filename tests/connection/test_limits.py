"""Limits that a client can reach: connections, message rate, message size, subscriptions. Each is exceeded by one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from contextlib import AsyncExitStack

import pytest

from tests.harness.client import Client, connect
from tests.harness.fixtures import StartServer
from tests.harness.health import read_health, wait_for_connections
from tests.harness.matchers import a_pong, a_response, an_error, between
from tests.harness.server import MahavishnuServer

MAX_CONNECTIONS = 1000
MAX_BURST = 150
MAX_MESSAGE_BYTES = 65_536
MAX_SUBSCRIPTIONS = 128

PING = '{"type":"ping"}'


def too_many_connections(maximum: int) -> dict[str, object]:
    return an_error(
        "TOO_MANY_CONNECTIONS",
        f"Connection limit reached ({maximum}); try again later",
        retryable=True,
    )


async def test_connection_limit_serves_a_thousand_clients_and_rejects_the_next(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    pool_id = unique("of_a_thousand")
    # Connections of other tests may still be closing.
    await wait_for_connections(server, 0)
    async with AsyncExitStack() as stack:
        clients: list[Client] = []
        for _ in range(10):
            arriving = (stack.enter_async_context(connect(server)) for _ in range(MAX_CONNECTIONS // 10))
            clients += await asyncio.gather(*arriving)
        assert {client.welcome["event"] for client in clients} == {"session.created"}
        assert len({client.welcome["data"]["connection_id"] for client in clients}) == MAX_CONNECTIONS

        async with connect(server) as rejected:
            # Sent instead of `session.created`.
            assert rejected.welcome == too_many_connections(MAX_CONNECTIONS)
            assert await rejected.wait_closed() == (1013, "TOO_MANY_CONNECTIONS")

        # Every accepted client receives the event.
        await asyncio.gather(*(client.subscribe(f"pool:{pool_id}") for client in clients))
        server.services.create_pool(pool_id=pool_id)
        events = await asyncio.gather(*(client.event("pool.created") for client in clients))
        assert all(event == events[0] for event in events)
    await wait_for_connections(server, 0)


@pytest.fixture(scope="module")
def small_server(start_module_server: StartServer) -> MahavishnuServer:
    """Start a server whose limits a few clients reach."""
    return start_module_server(
        max_connections=2, max_messages_per_second=0.1, max_message_burst=5, rate_limit_grace_seconds=0.6
    )


async def test_connection_limit_counts_only_open_accepted_connections(small_server: MahavishnuServer) -> None:
    await wait_for_connections(small_server, 0)
    async with connect(small_server) as first:
        async with connect(small_server):
            for _ in range(3):
                async with connect(small_server) as rejected:
                    assert rejected.welcome == too_many_connections(2)
                    assert await rejected.wait_closed() == (1013, "TOO_MANY_CONNECTIONS")
            report = (await asyncio.to_thread(read_health, small_server))[1]
            assert (report["connections"], report["max_connections"]) == (2, 2)
        await wait_for_connections(small_server, 1)
        async with connect(small_server) as next_one:
            assert next_one.welcome["event"] == "session.created"
        assert await first.request("unsubscribe", channel="global") == a_response(
            "unsubscribe", {"channel": "global", "status": "unsubscribed"}, "unsubscribe_001"
        )


def rate_limit_exceeded(*, per_second: str = "100", burst: int = MAX_BURST, max_ms: int = 10) -> dict[str, object]:
    return an_error(
        "RATE_LIMIT_EXCEEDED",
        f"Rate limit exceeded ({per_second} messages/s, burst {burst}); message discarded",
        retryable=True,
        retry_after_ms=between(1, max_ms),
    )


async def test_rate_limit_allows_a_burst_of_150_and_rejects_each_further_message(server: MahavishnuServer) -> None:
    count = 400
    async with connect(server) as client:
        for _ in range(count):
            await client.connection.send(PING)
        answers = [await client.next() for _ in range(count)]
        assert answers[:MAX_BURST] == [a_pong()] * MAX_BURST
        rejected = [answer for answer in answers if answer["type"] == "error"]
        assert rejected == [rate_limit_exceeded()] * len(rejected)
        # Meanwhile the bucket fills by one token every ten milliseconds.
        assert 1 <= len(rejected) <= count - MAX_BURST
        # After `retry_after_ms`, the next message is answered.
        await asyncio.sleep(rejected[-1]["retry_after_ms"] / 1000)
        await client.send({"type": "ping", "id": "after"})
        assert await client.next() == a_pong("after")


async def test_rate_limit_counts_invalid_messages_and_closes_after_the_grace_time(
    small_server: MahavishnuServer,
) -> None:
    rejection = rate_limit_exceeded(per_second="0.1", burst=5, max_ms=10_000)
    await wait_for_connections(small_server, 0)
    async with connect(small_server) as client, connect(small_server) as other:
        for message in (PING, b"binary", "not JSON", "[]", '{"type":"request","event":"restart"}'):
            await client.send_raw(message)
        for expected in ("pong", "error", "error", "error", "error"):
            answer = await client.next()
            assert answer["type"] == expected
            assert answer.get("error_code") in (None, "INVALID_MESSAGE", "UNKNOWN_REQUEST")
        async with asyncio.timeout(60):
            while True:
                await client.send_raw(PING)
                answer = await client.next()
                if answer != rejection:
                    break
        assert answer == an_error(
            "RATE_LIMIT_EXCEEDED",
            "Rate limit exceeded (0.1 messages/s, burst 5) for more than 0.6 s",
            retryable=True,
            retry_after_ms=between(1, 10_000),
        )
        assert await client.wait_closed() == (1008, "RATE_LIMIT_EXCEEDED")
        # Other connections are not affected.
        await other.send({"type": "ping"})
        assert await other.next() == a_pong()


def padded_ping(size_bytes: int, filling: str = "x") -> str:
    empty = json.dumps({"type": "ping", "padding": ""}, ensure_ascii=False)
    room = size_bytes - len(empty)
    count, rest = divmod(room, len(filling.encode()))
    message = json.dumps({"type": "ping", "padding": filling * count + "y" * rest}, ensure_ascii=False)
    assert len(message.encode()) == size_bytes
    return message


@pytest.mark.parametrize("filling", ["x", "é", "\U0001f600"])
async def test_message_of_64_kib_is_answered_and_one_byte_more_closes(server: MahavishnuServer, filling: str) -> None:
    async with connect(server) as client:
        await client.send_raw(padded_ping(MAX_MESSAGE_BYTES, filling))
        assert await client.next() == a_pong()
        await client.send_raw(padded_ping(MAX_MESSAGE_BYTES + 1, filling))
        answer = await client.next()
        assert answer == an_error("MESSAGE_TOO_BIG", answer["error_message"])
        assert answer["error_message"].endswith("exceeds the limit of 65536 bytes")
        assert await client.wait_closed() == (1009, "MESSAGE_TOO_BIG")


async def test_subscription_limit_allows_128_channels(server: MahavishnuServer) -> None:
    async with connect(server) as client:
        for number in range(MAX_SUBSCRIPTIONS):
            await client.subscribe(f"workflow:limit_{number}")

        async def expect_rejection() -> None:
            answer = await client.request("subscribe", channel="global")
            assert answer == an_error(
                "TOO_MANY_SUBSCRIPTIONS",
                "Subscription limit reached (128 channels); unsubscribe from one first or open another connection",
                event="subscribe",
                correlation_id=answer["correlation_id"],
            )

        await expect_rejection()
        # Subscribing to the same channel again is allowed.
        await client.subscribe("workflow:limit_0")
        await client.unsubscribe("workflow:limit_0")
        await client.subscribe("workflow:limit_128")
        await expect_rejection()
