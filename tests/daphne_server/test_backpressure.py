"""Clients that read too slowly or send too fast cost the server little memory, and other clients nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psutil
import pytest
from websockets.frames import Opcode

from tests.connection.raw_client import SMALL_BUFFER_BYTES, RawClient, all_messages, frame, open_raw, request, text
from tests.events.announcements import announce, announce_unpublished
from tests.harness.client import Client, connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import eventually

MIB = 1024 * 1024
EVENT_BYTES = 60_000

STALL_SECONDS = 3.0
STALLED = "nothing read for 3 s"
QUEUE_LIMIT = f"limit {MIB}"


@pytest.fixture(scope="module")
def short_stall_server(start_module_server: StartServer) -> MahavishnuServer:
    """Start a server with a short stall timeout, yet long enough for a busy machine."""
    return start_module_server(send_stall_seconds=STALL_SECONDS, close_timeout_seconds=5.0)


@asynccontextmanager
async def stalled_subscribers(server: MahavishnuServer, channel: str, count: int) -> AsyncIterator[list[RawClient]]:
    """Connect clients that subscribe, read the response, and then read nothing."""
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(count):
            client = await stack.enter_async_context(open_raw(server.port, receive_buffer_bytes=SMALL_BUFFER_BYTES))
            await client.send(request("subscribe", channel=channel))
            assert (await client.message())["type"] == "response"
            clients.append(client)
        yield clients


@asynccontextmanager
async def subscriber(server: MahavishnuServer, channel: str) -> AsyncIterator[Client]:
    async with connect(server) as client:
        await client.subscribe(channel)
        yield client


def memory_bytes(server: MahavishnuServer) -> int:
    return int(psutil.Process(server.pid).memory_info().rss)


def slow_consumer_count(server: MahavishnuServer, reason: str) -> int:
    """Return how often this server has closed a slow consumer with that reason."""
    return server.log_text().count(f"{reason}), subscribed to")


def slow_consumer(error: dict[str, Any], reason: str) -> dict[str, Any]:
    """Return the whole SLOW_CONSUMER message."""
    return {
        "id": error["id"],
        "timestamp": error["timestamp"],
        "type": "error",
        "event": "error",
        "data": {},
        "error_code": "SLOW_CONSUMER",
        "error_message": f"Client reads too slowly ({reason}); reconnect and subscribe with `since`",
        "retryable": True,
    }


async def assert_closed_as_slow(client: RawClient, sent: list[dict[str, Any]]) -> None:
    """Read all that the client was sent: some of the events, the error, and the close frame."""
    (*events, error), close = await all_messages(client)
    assert events == sent[: len(events)]
    queued = error["error_message"].partition("(")[2].partition(" ")[0]
    assert MIB < int(queued) < len(sent) * EVENT_BYTES
    assert error == slow_consumer(error, f"{queued} bytes queued, {QUEUE_LIMIT}")
    assert close == (1008, "SLOW_CONSUMER")
    assert len(events) < len(sent)


async def test_full_send_queue_closes_the_slow_consumer_and_no_other_client(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    channel, count, stalled_count = f"workflow:{unique('slow')}", 60, 8
    async with subscriber(server, channel) as witness, stalled_subscribers(server, channel, stalled_count) as stalled:
        announce(server, channel, *[EVENT_BYTES] * 2)
        sent = await witness.events(2)
        memory_before, closed_before = memory_bytes(server), slow_consumer_count(server, QUEUE_LIMIT)
        for _ in range(count // 2 - 1):
            announce(server, channel, *[EVENT_BYTES] * 2)
            sent += await witness.events(2)
        assert memory_bytes(server) - memory_before < stalled_count * 2 * MIB
        await eventually(lambda: slow_consumer_count(server, QUEUE_LIMIT) == closed_before + stalled_count)
        for client in stalled:
            await assert_closed_as_slow(client, sent)


async def test_large_transaction_closes_only_stalled_clients_and_is_queued_once(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    channel, count, stalled_count = f"workflow:{unique('burst')}", 130, 8
    async with (
        subscriber(server, channel) as first,
        subscriber(server, channel) as second,
        stalled_subscribers(server, channel, stalled_count) as stalled,
    ):
        memory_before, closed_before = memory_bytes(server), slow_consumer_count(server, QUEUE_LIMIT)
        announce_unpublished(server, channel, *[EVENT_BYTES] * count)
        sent = await first.events(count)
        assert await second.events(count) == sent
        assert [event["seq"] for event in sent] == list(range(sent[0]["seq"], sent[0]["seq"] + count))
        await eventually(lambda: slow_consumer_count(server, QUEUE_LIMIT) == closed_before + stalled_count)
        # All queues share the same bytes.
        assert memory_bytes(server) - memory_before < 4 * count * EVENT_BYTES
        for client in stalled:
            await assert_closed_as_slow(client, sent)


async def test_stall_timeout_closes_a_client_that_reads_nothing_and_not_one_that_reads_slowly(
    short_stall_server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    server, channel = short_stall_server, f"workflow:{unique('stalled')}"
    async with subscriber(server, channel) as witness, stalled_subscribers(server, channel, 2) as (stalled, slow):
        closed_before = server.log_text().count(STALLED)
        announce(server, channel, *[EVENT_BYTES] * 12)
        sent = await witness.events(12)
        reading = asyncio.create_task(read_slowly(slow, sent))
        # From here on the stalled client has five seconds to read the reason.
        await eventually(lambda: server.log_text().count(STALLED) > closed_before)
        (*events, error), close = await all_messages(stalled)
        assert events == sent[: len(events)]
        assert error == slow_consumer(error, STALLED)
        assert close == (1008, "SLOW_CONSUMER")
        await reading
        await slow.send(request("unsubscribe", channel=channel))
        assert (await slow.message())["type"] == "response"


async def read_slowly(client: RawClient, expected: list[dict[str, Any]]) -> None:
    """Take far longer than the stall timeout in total, with pauses shorter than it."""
    for message in expected:
        assert await client.message() == message
        await asyncio.sleep(STALL_SECONDS / 5)


async def test_client_that_never_reads_again_is_dropped(
    short_stall_server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    channel = f"workflow:{unique('dead')}"
    async with stalled_subscribers(short_stall_server, channel, 1) as (stalled,):
        announce(short_stall_server, channel, *[EVENT_BYTES] * 12)
        assert tcp_connections(short_stall_server)
        await eventually(lambda: not tcp_connections(short_stall_server))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            while True:
                await stalled.receive()


def tcp_connections(server: MahavishnuServer) -> list[Any]:
    """Return the server process's TCP connections with clients."""
    process = psutil.Process(server.pid)
    return [one for one in process.net_connections("tcp") if one.laddr.port == server.port and one.raddr]


async def test_replay_larger_than_the_send_queue_is_paced_by_the_client(
    short_stall_server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    server, channel, count = short_stall_server, f"workflow:{unique('replay')}", 40
    async with connect(server) as client:
        since = client.welcome["data"]["seq"]
    announce(server, channel, *[EVENT_BYTES] * count)
    async with open_raw(server.port, receive_buffer_bytes=SMALL_BUFFER_BYTES) as slow:
        await slow.send(request("subscribe", channel=channel, since=since))
        assert (await slow.message())["data"]["missed"] == count
        for number in range(count):
            assert (await slow.message())["replay"]
            await asyncio.sleep(0.03 if number else 0.8)
        await slow.send(request("unsubscribe", channel=channel))
        assert (await slow.message())["type"] == "response"


FLOODS = {
    "messages": text('{"type":"ping"}') * 1000,
    "smallest messages": text("1") * 5000,
    "pings": frame(Opcode.PING, b"x" * 125) * 500,
    "empty fragments": frame(Opcode.CONT, b"", fin=False) * 2000,
    "large messages": text("x" * 60_000) * 10,
}


async def flood(server: MahavishnuServer, data: bytes, *, seconds: float) -> None:
    """Send as fast as the server reads, and read nothing."""
    async with open_raw(server.port, receive_buffer_bytes=SMALL_BUFFER_BYTES) as client:
        try:
            async with asyncio.timeout(seconds):
                if data is FLOODS["empty fragments"]:
                    await client.send(frame(Opcode.TEXT, b"", fin=False))
                while True:
                    await client.send(data)
        except TimeoutError:
            pass  # The server read, or throttled the client, for the whole time.


async def test_flooding_clients_are_throttled_and_cost_others_nothing(start_server: StartServer) -> None:
    # With this grace no client is closed, however long a flood takes on a busy machine.
    server = start_server(rate_limit_grace_seconds=60)
    durations = []
    async with connect(server) as client, asyncio.TaskGroup() as floods:
        memory_before = memory_bytes(server)
        for data in FLOODS.values():
            for _ in range(4):
                floods.create_task(flood(server, data, seconds=3.0))
        for number in range(25):
            began = asyncio.get_running_loop().time()
            await client.send({"type": "ping", "id": f"ping {number}"})
            assert (await client.next())["correlation_id"] == f"ping {number}"
            durations.append(asyncio.get_running_loop().time() - began)
            assert memory_bytes(server) - memory_before < 24 * MIB
            await asyncio.sleep(0.1)
    # The median: a busy machine delays some of the pings.
    assert sorted(durations)[len(durations) // 2] < 0.5
