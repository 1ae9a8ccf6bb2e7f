"""Who reads too slowly, and who writes too fast: neither costs the server memory, nor anybody else a message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psutil
import pytest
from websockets.frames import Opcode

from tests.connection.raw_client import NARROW_BYTES, RawClient, all_messages, frame, open_raw, request, text
from tests.events.announcements import announce, announce_by_the_log_alone
from tests.harness.client import Client, connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until

MIB = 1024 * 1024
EVENT_BYTES = 60_000

PATIENCE_SECONDS = 3.0
BLOCKED = "nothing taken for 3 s"


@pytest.fixture(scope="module")
def impatient_server(start_shared_server: StartServer) -> Iterator[MahavishnuServer]:
    """A server that soon loses patience, though not so soon that a machine that is busy makes a slow reader."""
    impatient = start_shared_server(send_stall_seconds=PATIENCE_SECONDS, close_timeout_seconds=5.0)
    yield impatient
    impatient.close()


@asynccontextmanager
async def stalled_readers(server: MahavishnuServer, channel: str, count: int) -> AsyncIterator[list[RawClient]]:
    """Subscribers that read the answer and then nothing."""
    async with AsyncExitStack() as stack:
        clients = []
        for _ in range(count):
            client = await stack.enter_async_context(open_raw(server.port, receive_buffer_bytes=NARROW_BYTES))
            await client.send(request("subscribe", channel=channel))
            assert (await client.message())["type"] == "response"
            clients.append(client)
        yield clients


@asynccontextmanager
async def reader(server: MahavishnuServer, channel: str) -> AsyncIterator[Client]:
    async with connect(server) as client:
        await client.subscribe(channel)
        yield client


def memory_bytes(server: MahavishnuServer) -> int:
    return int(psutil.Process(server.pid).memory_info().rss)


def times_cut(server: MahavishnuServer, why: str) -> int:
    """How often this server has cut a reader for that reason."""
    return server.log_text().count(f"{why}. It is subscribed")


async def becomes(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(wait_until, condition, timeout_seconds=30)


def slow_consumer(error: dict[str, Any], why: str) -> dict[str, Any]:
    """The whole message that a reader is told with that it was too slow."""
    return {
        "id": error["id"],
        "timestamp": error["timestamp"],
        "type": "error",
        "event": "error",
        "data": {},
        "error_code": "SLOW_CONSUMER",
        "error_message": f"This connection reads too slowly ({why}): connect again and subscribe with `since`",
        "retryable": True,
    }


async def test_a_reader_with_too_much_unsent_is_told_and_closed_and_others_have_everything(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    channel, count, stalled_count = f"workflow:{unique('slow')}", 60, 8
    async with reader(server, channel) as witness, stalled_readers(server, channel, stalled_count) as stalled:
        announce(server, channel, *[EVENT_BYTES] * 2)
        seen = await witness.events(2)
        before_bytes, cut_before = memory_bytes(server), times_cut(server, f"at most {MIB} allowed")
        for _ in range(count // 2 - 1):
            announce(server, channel, *[EVENT_BYTES] * 2)
            seen += await witness.events(2)
        assert memory_bytes(server) - before_bytes < stalled_count * 2 * MIB
        await becomes(lambda: times_cut(server, f"at most {MIB} allowed") == cut_before + stalled_count)
        for client in stalled:
            (*events, error), close = await all_messages(client)
            assert 0 < len(events) < count
            assert events == seen[: len(events)]
            unsent = error["error_message"].partition("(")[2].partition(" ")[0]
            assert MIB < int(unsent) < count * EVENT_BYTES
            assert error == slow_consumer(error, f"{unsent} bytes unsent, at most {MIB} allowed")
            assert close == (1008, "SLOW_CONSUMER")


async def test_a_transaction_of_many_mebibytes_cuts_nobody_who_reads_and_costs_little_memory(
    server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    channel, count, stalled_count = f"workflow:{unique('burst')}", 130, 8
    async with (
        reader(server, channel) as first,
        reader(server, channel) as second,
        stalled_readers(server, channel, stalled_count) as stalled,
    ):
        before_bytes, cut_before = memory_bytes(server), times_cut(server, f"at most {MIB} allowed")
        announce_by_the_log_alone(server, channel, *[EVENT_BYTES] * count)
        seen = await first.events(count)
        assert await second.events(count) == seen
        assert [event["seq"] for event in seen] == list(range(seen[0]["seq"], seen[0]["seq"] + count))
        await becomes(lambda: times_cut(server, f"at most {MIB} allowed") == cut_before + stalled_count)
        # All of them share what waits.
        assert memory_bytes(server) - before_bytes < 4 * count * EVENT_BYTES
        for client in stalled:
            (*events, error), close = await all_messages(client)
            assert events == seen[: len(events)]
            unsent = error["error_message"].partition("(")[2].partition(" ")[0]
            assert MIB < int(unsent) < count * EVENT_BYTES
            assert error == slow_consumer(error, f"{unsent} bytes unsent, at most {MIB} allowed")
            assert close == (1008, "SLOW_CONSUMER")


async def test_a_reader_that_takes_nothing_is_told_in_time_and_one_that_takes_a_little_is_not(
    impatient_server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    channel = f"workflow:{unique('blocked')}"
    async with reader(impatient_server, channel) as witness, stalled_readers(impatient_server, channel, 2) as stalled:
        blocked, slow = stalled
        cut_before = impatient_server.log_text().count(BLOCKED)
        announce(impatient_server, channel, *[EVENT_BYTES] * 12)
        seen = await witness.events(12)
        reading = asyncio.create_task(read_slowly(slow, seen))
        # From here on it has five seconds to read why.
        await becomes(lambda: impatient_server.log_text().count(BLOCKED) > cut_before)
        (*events, error), close = await all_messages(blocked)
        assert events == seen[: len(events)]
        assert error == slow_consumer(error, BLOCKED)
        assert close == (1008, "SLOW_CONSUMER")
        await reading
        await slow.send(request("unsubscribe", channel=channel))
        assert (await slow.message())["type"] == "response"


async def read_slowly(client: RawClient, expected: list[dict[str, Any]]) -> None:
    """Take far longer than the patience of the server, but never nothing for as long."""
    for message in expected:
        assert await client.message() == message
        await asyncio.sleep(PATIENCE_SECONDS / 5)


async def test_a_reader_that_never_reads_again_is_dropped(
    impatient_server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    channel = f"workflow:{unique('dead')}"
    async with stalled_readers(impatient_server, channel, 1) as (dead,):
        announce(impatient_server, channel, *[EVENT_BYTES] * 12)
        assert connections_of(impatient_server)
        await becomes(lambda: not connections_of(impatient_server))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            while True:
                await dead.receive()


def connections_of(server: MahavishnuServer) -> list[Any]:
    """The TCP connections that this process has open with clients."""
    process = psutil.Process(server.pid)
    return [one for one in process.net_connections("tcp") if one.laddr.port == server.port and one.raddr]


async def test_a_replay_of_more_than_may_wait_is_sent_at_the_readers_pace(
    impatient_server: MahavishnuServer, unique: Callable[[str], str]
) -> None:
    channel, count = f"workflow:{unique('replay')}", 40
    async with connect(impatient_server) as client:
        since = client.welcome["data"]["seq"]
    announce(impatient_server, channel, *[EVENT_BYTES] * count)
    async with open_raw(impatient_server.port, receive_buffer_bytes=NARROW_BYTES) as slow:
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


async def flood(server: MahavishnuServer, wire: bytes, *, seconds: float) -> None:
    """Send as fast as the server takes it, and read nothing."""
    async with open_raw(server.port, receive_buffer_bytes=NARROW_BYTES) as client:
        try:
            async with asyncio.timeout(seconds):
                if wire is FLOODS["empty fragments"]:
                    await client.send(frame(Opcode.TEXT, b"", fin=False))
                while True:
                    await client.send(wire)
        except TimeoutError:
            pass  # It was let go on, or made to wait, for all of the time.


async def test_whoever_floods_the_server_is_made_to_wait_and_costs_nobody_anything(start_server: StartServer) -> None:
    # Nobody is closed for it, however long a flood takes on a machine that is busy.
    server = start_server(rate_limit_grace_seconds=60)
    durations = []
    async with connect(server) as client, asyncio.TaskGroup() as floods:
        before_bytes = memory_bytes(server)
        for wire in FLOODS.values():
            for _ in range(4):
                floods.create_task(flood(server, wire, seconds=3.0))
        for number in range(25):
            began = asyncio.get_running_loop().time()
            await client.send({"type": "ping", "id": f"ping {number}"})
            assert (await client.next())["correlation_id"] == f"ping {number}"
            durations.append(asyncio.get_running_loop().time() - began)
            assert memory_bytes(server) - before_bytes < 24 * MIB
            await asyncio.sleep(0.1)
    # A machine that is busy holds up some of them.
    assert sorted(durations)[len(durations) // 2] < 0.5
