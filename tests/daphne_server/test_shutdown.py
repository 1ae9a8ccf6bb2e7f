"""A server that is told to stop says close_frame to everyone, and ends in time whatever they do."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.frames import Close, Opcode

from tests.connection.raw_client import HANDSHAKE, NARROW_BYTES, RawClient, all_messages, frame, open_raw, request
from tests.events.announcements import announce
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer

EVENT_BYTES = 60_000

DRAIN_TIMEOUT_SECONDS = 10.0
"""Its last fifth is the process's own: enough on a machine that is busy."""

NO_PART_OF_A_GOOD_END = ("Traceback", "CRITICAL", "Task was destroyed", "never retrieved", "Unclosed")


def session_draining(message: dict[str, Any], retry_after_ms: int) -> dict[str, Any]:
    """The whole of the close_frame."""
    return {
        "id": message["id"],
        "timestamp": message["timestamp"],
        "type": "event",
        "event": "session.draining",
        "data": {
            "retry_after_ms": retry_after_ms,
            "message": "This server is about to stop: connect again and subscribe with `since`",
        },
    }


LONG_SECONDS = 60.0
"""More than a test waits for the end of a server: one that ends all the same did not wait for this."""


async def ends(server: MahavishnuServer) -> int:
    """Send SIGTERM and return the exit code.

    Raises:
        subprocess.TimeoutExpired: it did not end in a third of `LONG_SECONDS`.
    """
    return await asyncio.to_thread(server.terminate)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_every_client_is_told_when_to_come_back_and_the_server_ends_when_all_have_left(
    server: MahavishnuServer, start_server: StartServer, number: signal.Signals
) -> None:
    stopping = start_server(beside=server)
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(stopping)) for _ in range(40)]
        for client in clients:
            await client.subscribe("global")
        stopping.signal(number)
        retry_after_ms = []
        for client in clients:
            close_frame = await client.next()
            retry_after_ms.append(close_frame["data"]["retry_after_ms"])
            assert close_frame == session_draining(close_frame, retry_after_ms[-1])
            assert await client.wait_closed() == (1012, "DRAINING")
        assert sorted(retry_after_ms) == list(range(10, 410, 10))
        assert await asyncio.to_thread(stopping.wait_ended) == 0
    assert [word for word in NO_PART_OF_A_GOOD_END if word in stopping.log_text()] == []


async def test_the_slots_of_many_clients_share_a_window(server: MahavishnuServer, start_server: StartServer) -> None:
    stopping = start_server(
        beside=server,
        reconnect_window_seconds=0.1,
        drain_timeout_seconds=LONG_SECONDS,
        close_timeout_seconds=LONG_SECONDS,
    )
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(stopping)) for _ in range(20)]
        assert await ends(stopping) == 0
        slots = [(await client.next())["data"]["retry_after_ms"] for client in clients]
        assert sorted(slots) == list(range(5, 105, 5))


async def test_what_is_unsent_comes_before_the_goodbye(
    server: MahavishnuServer, start_server: StartServer, unique: Callable[[str], str]
) -> None:
    stopping = start_server(beside=server, drain_timeout_seconds=LONG_SECONDS, close_timeout_seconds=LONG_SECONDS)
    channel = f"workflow:{unique('unsent')}"
    async with open_raw(stopping.port, receive_buffer_bytes=NARROW_BYTES) as slow, connect(stopping) as witness:
        await slow.send(request("subscribe", channel=channel))
        assert (await slow.message())["type"] == "response"
        await witness.subscribe(channel)
        announce(server, channel, *[EVENT_BYTES] * 12)
        seen = await witness.events(12)
        ending = asyncio.create_task(ends(stopping))
        await witness.wait_closed()
        (*events, close_frame), close = await all_messages(slow)
        assert events == seen
        assert close_frame == session_draining(close_frame, close_frame["data"]["retry_after_ms"])
        assert close == (1012, "DRAINING")
        await slow.send(frame(Opcode.CLOSE, Close(1012, "").serialize()))
        assert await slow.ended()
        assert await ending == 0


class KeptAlive:
    """An HTTP connection that was opened before the server was told to stop."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def health(self) -> tuple[str, dict[str, Any]]:
        self.writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length:")[2].split()[0])
        return head.splitlines()[0], json.loads(await self.reader.readexactly(length))


async def test_meanwhile_health_says_so_and_nobody_new_is_let_in(
    server: MahavishnuServer, start_server: StartServer
) -> None:
    stopping = start_server(beside=server, drain_timeout_seconds=LONG_SECONDS, close_timeout_seconds=LONG_SECONDS)
    kept = KeptAlive(*await asyncio.open_connection(HOST, stopping.port))
    upgrading, upgrading_writer = await asyncio.open_connection(HOST, stopping.port)
    async with open_raw(stopping.port) as stubborn:
        status, report = await kept.health()
        assert (status, report["status"]) == ("HTTP/1.1 200 OK", "healthy")
        ending = asyncio.create_task(ends(stopping))
        assert (await stubborn.message())["event"] == "session.draining"
        assert (await stubborn.receive()).close() == (1012, "DRAINING")
        # It does not answer, and so the server is still there.
        status, draining = await kept.health()
        assert status == "HTTP/1.1 503 Service Unavailable"
        assert draining == report | {"status": "draining"} | {
            name: draining[name] for name in ("connections", "relay_lag_ms", "log_seq", "delivered_events")
        }
        upgrading_writer.write(HANDSHAKE)
        assert (await upgrading.read()).startswith(b"HTTP/1.1 503 ")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, stopping.port)
        await stubborn.send(frame(Opcode.CLOSE, Close(1012, "").serialize()))
        assert await ending == 0
    for writer in (kept.writer, upgrading_writer):
        writer.close()
    assert [word for word in NO_PART_OF_A_GOOD_END if word in stopping.log_text()] == []


async def stubborn_client(stack: AsyncExitStack, server: MahavishnuServer) -> RawClient:
    """A client that will never answer a close frame."""
    return await stack.enter_async_context(open_raw(server.port))


async def test_whoever_does_not_leave_in_time_is_left_behind(
    server: MahavishnuServer, start_server: StartServer
) -> None:
    stopping = start_server(
        beside=server, drain_timeout_seconds=DRAIN_TIMEOUT_SECONDS, close_timeout_seconds=LONG_SECONDS
    )
    async with AsyncExitStack() as stack:
        await stubborn_client(stack, stopping)
        assert await ends(stopping) == 0
    assert "1 clients did not leave in time" in stopping.log_text()
    assert "Traceback" not in stopping.log_text()


async def test_a_second_signal_ends_it_now(server: MahavishnuServer, start_server: StartServer) -> None:
    stopping = start_server(beside=server, drain_timeout_seconds=LONG_SECONDS, close_timeout_seconds=LONG_SECONDS)
    async with AsyncExitStack() as stack:
        stubborn = await stubborn_client(stack, stopping)
        stopping.signal(signal.SIGTERM)
        assert (await stubborn.message())["event"] == "session.draining"
        assert await ends(stopping) == 128 + signal.SIGTERM


LOCK = """
import threading
from django.db import connection, transaction

def hold():
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE orchestration_pool IN ACCESS EXCLUSIVE MODE")
        locked.set()
        let_go.wait(30)

locked, let_go = threading.Event(), threading.Event()
threading.Thread(target=hold, daemon=True).start()
result = locked.wait(10)
"""


async def test_a_thread_that_waits_for_the_database_does_not_hold_up_the_end(
    postgres_server: MahavishnuServer, start_server: StartServer
) -> None:
    stopping = start_server(beside=postgres_server, drain_timeout_seconds=4.0)
    holder = stopping.driver()
    assert await asyncio.to_thread(holder.execute, LOCK)
    try:
        async with connect(stopping) as client:
            await client.send({"type": "request", "event": "get_pool_status", "data": {"pool_id": "x"}, "id": "1"})
            await client.send({"type": "ping", "id": "2"})
            assert (await client.next())["type"] == "pong"
            assert await ends(stopping) == 1
            assert (await client.next())["event"] == "session.draining"
    finally:
        holder.kill()
    assert "did not end in time" in stopping.log_text()
