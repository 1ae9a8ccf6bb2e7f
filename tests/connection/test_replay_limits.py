"""What replays and snapshots may take: memory, bytes of the log, and nothing once their client has left."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack

import psutil
import pytest

from orchestration.bounds import KIB, MIB
from tests.connection.raw_client import SMALL_BUFFER_BYTES, RawClient, open_raw, request, text
from tests.connection.resume_requests import announce, announce_large, numbers, resume
from tests.events.announcements import announce as announce_sizes
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.health import read_health, wait_for_connections
from tests.harness.matchers import A_NUMBER, an_error, an_event
from tests.harness.server import MahavishnuServer
from tests.harness.table_lock import workflows_locked
from tests.harness.waiting import eventually

BURST_BYTES = 64 * KIB

# Longer than any test waits: a query that waits for a lock ends only with its connection.
PATIENT_POSTGRES = {"PGOPTIONS": "-c lock_timeout=10min"}


def memory_bytes(server: MahavishnuServer) -> int:
    return int(psutil.Process(server.pid).memory_info().rss)


async def answers_on_another_connection(server: MahavishnuServer) -> None:
    """Return when the server answers a snapshot: a turn in the queue of the replays that begins after all others."""
    async with connect(server) as client:
        await resume(client, "worker:unused", snapshot=True)


async def test_replays_to_clients_that_read_nothing_are_bounded_in_bytes(start_server: StartServer, room: str) -> None:
    server = start_server(send_stall_seconds=600)
    announce_sizes(server, room, *[15_000] * 250)
    clients = 50
    async with connect(server) as client:
        # Every client resumes from another position, so that they share nothing.
        first = (await resume(client, room, since=0))["seq"] - 249
    memory_before = memory_bytes(server)
    async with AsyncExitStack() as stack:
        for number in range(clients):
            reader = await stack.enter_async_context(open_raw(server.port, receive_buffer_bytes=SMALL_BUFFER_BYTES))
            await reader.send(request("subscribe", channel=room, since=first + number))
            # The first chunk follows the response at once.
            assert (await reader.message())["data"]["missed"] >= 200
        await answers_on_another_connection(server)
        # Each holds 256 KiB in its send queue. Without a bound in bytes it was more than 2 MiB.
        assert memory_bytes(server) - memory_before < clients * MIB
        # None was disconnected for what it has not read.
        await wait_for_connections(server, clients)


@pytest.fixture(scope="module")
def limited_server(start_module_server: StartServer) -> MahavishnuServer:
    """Start a server that allows few bytes of replays: no second replay after one that exceeds the burst."""
    return start_module_server(max_replay_burst_bytes=BURST_BYTES, max_replay_bytes_per_second=1)


async def test_replay_beyond_the_burst_finishes_and_delays_the_next_one(
    limited_server: MahavishnuServer, room: str
) -> None:
    announce_large(limited_server, room)
    async with connect(limited_server) as client:
        assert (await resume(client, room, since=0))["missed"] == 400
        assert numbers(await client.events(400)) == list(range(400))
        for options in ({"since": 0}, {"snapshot": True}):
            refused = await client.request("subscribe", channel=room, **options)
            assert refused == {
                **an_error(
                    "RATE_LIMIT_EXCEEDED",
                    "Replay limit exceeded (1 bytes/s of replays, snapshots and lists, burst 65536); "
                    "the subscriptions are unchanged",
                    event="subscribe",
                    correlation_id=refused["correlation_id"],
                    retryable=True,
                    retry_after_ms=A_NUMBER,
                ),
            }
            # 24 MB at 1 byte a second.
            assert refused["retry_after_ms"] > 20_000_000 * 1000
        # The subscription continues, and a plain one is not affected.
        announce(limited_server, room, 1)
        assert await client.next() == an_event("test", {"number": 0}, room=room)
        await client.subscribe("pool:another")
    async with connect(limited_server) as another:
        assert (await resume(another, room, since=0))["missed"] == 401


async def test_replay_is_allowed_after_the_time_of_the_error(start_server: StartServer, room: str) -> None:
    server = start_server(max_replay_burst_bytes=KIB, max_replay_bytes_per_second=100_000)
    announce_sizes(server, room, 30_000)
    async with connect(server) as client:
        await resume(client, room, since=0)
        refused = await client.request("subscribe", channel=room, since=0)
        assert refused["error_code"] == "RATE_LIMIT_EXCEEDED"
        await asyncio.sleep(refused["retry_after_ms"] / 1000)
        assert (await resume(client, room, since=0))["missed"] == 1


async def test_replay_that_exceeds_the_number_of_events_is_charged(start_server: StartServer, room: str) -> None:
    server = start_server(max_replay_burst_bytes=KIB, max_replay_bytes_per_second=1, max_replay_events=10)
    announce(server, room, 300)
    async with connect(server) as client:
        for _ in range(30):
            answer = await client.request("subscribe", channel=room, since=0)
            if answer["type"] == "error":
                break
            assert answer["data"]["reason"] == "limit"
        assert answer["error_code"] == "RATE_LIMIT_EXCEEDED"


async def test_largest_replay_of_small_events_fits_the_burst(server: MahavishnuServer, room: str) -> None:
    announce(server, room, 10_000)
    async with connect(server) as client:
        assert (await resume(client, room, since=0))["missed"] == 10_000
        assert numbers(await client.events(10_000)) == list(range(10_000))
        # More than nothing is left.
        await resume(client, room, snapshot=True)


def rooms_and_connections(server: MahavishnuServer) -> tuple[int, int]:
    health = read_health(server)[1]
    return health["rooms"], health["connections"]


def reset(client: RawClient) -> None:
    client.writer.transport.abort()


@pytest.fixture(scope="module")
def patient_server(start_module_server: StartServer) -> MahavishnuServer:
    """Start a server with one replay at a time, that answers no request late."""
    return start_module_server(
        database="postgres", environment=PATIENT_POSTGRES, request_timeout_seconds=600, max_concurrent_replays=1
    )


@pytest.mark.parametrize("clients", [1, 5], ids=["in a database thread", "in the queue"])
async def test_client_that_leaves_ends_its_snapshots(patient_server: MahavishnuServer, clients: int) -> None:
    with workflows_locked(patient_server):
        for number in range(clients):
            async with open_raw(patient_server.port) as client:
                requests = [
                    request("subscribe", channel=f"workflow:{number}_{index}", snapshot=True) for index in range(16)
                ]
                await client.send(*requests)
                await wait_for_connections(patient_server, 1)
                reset(client)
                await wait_for_connections(patient_server, 0)
    # One read was in the database. The others would each take a turn before this one.
    await answers_on_another_connection(patient_server)


async def test_connection_that_the_server_closes_ends_its_snapshot(start_server: StartServer) -> None:
    server = start_server(
        database="postgres",
        environment=PATIENT_POSTGRES,
        request_timeout_seconds=600,
        rate_limit_grace_seconds=0,
        close_timeout_seconds=600,
    )
    with workflows_locked(server):
        async with open_raw(server.port) as client:
            await client.send(request("subscribe", channel="workflow:a", snapshot=True))
            await eventually(lambda: rooms_and_connections(server) == (1, 1), what="the subscription")
            await client.send(*[text('{"type": "ping"}')] * 200)
            # The client does not answer the close frame: its connection is still open.
            await eventually(lambda: rooms_and_connections(server) == (0, 1), what="the end of the subscription")


async def test_client_that_leaves_during_its_replay_ends_it(patient_server: MahavishnuServer, room: str) -> None:
    announce_large(patient_server, room)
    async with open_raw(patient_server.port, receive_buffer_bytes=SMALL_BUFFER_BYTES) as client:
        await client.send(*[request("subscribe", channel=room, since=0)] * 16)
        assert (await client.message())["data"]["missed"] == 400
        reset(client)
        await wait_for_connections(patient_server, 0)


async def test_reads_that_wait_behind_one_that_times_out_fail_with_it(
    start_server: StartServer, unique: Callable[[str], str]
) -> None:
    server = start_server(database="postgres", request_timeout_seconds=1, max_concurrent_replays=1)
    channels = [f"workflow:{unique('wf')}" for _ in range(4)]
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(server)) for _ in channels]
        with workflows_locked(server):
            for client, channel in zip(clients, channels, strict=True):
                await client.send(
                    {"type": "request", "event": "subscribe", "id": "a", "data": {"channel": channel, "snapshot": True}}
                )
            for client in clients:
                assert (await client.next())["error_code"] == "SERVER_ERROR"
        for client, channel in zip(clients, channels, strict=True):
            assert (await client.subscribe(channel, snapshot=True))["data"]["status"] == "subscribed"
