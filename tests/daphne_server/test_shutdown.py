"""Graceful shutdown: every client gets `session.draining` and a close frame, and the process exits in time."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from websockets.frames import Close, Opcode

from tests.connection.raw_client import (
    HANDSHAKE,
    SMALL_BUFFER_BYTES,
    RawClient,
    all_messages,
    frame,
    open_raw,
    request,
)
from tests.events.announcements import announce
from tests.harness.client import connect
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer

EVENT_BYTES = 60_000

DRAIN_TIMEOUT_SECONDS = 10.0
"""A fifth of it is left for the process to exit: enough on a busy machine."""

ERROR_MARKS = ("Traceback", "CRITICAL", "Task was destroyed", "never retrieved", "Unclosed")


def session_draining(message: dict[str, Any], retry_after_ms: int) -> dict[str, Any]:
    """Return the whole `session.draining` message."""
    return {
        "id": message["id"],
        "timestamp": message["timestamp"],
        "type": "event",
        "event": "session.draining",
        "data": {
            "retry_after_ms": retry_after_ms,
            "message": "This server is stopping: reconnect and subscribe with `since`",
        },
    }


LONG_SECONDS = 60.0
"""More than a test waits for the end of a server: one that ends in time did not wait for a timeout of this length."""


async def stop(server: MahavishnuServer) -> int:
    """Send SIGTERM and return the exit code.

    Raises:
        subprocess.TimeoutExpired: if the server runs after a third of `LONG_SECONDS`.
    """
    return await asyncio.to_thread(server.terminate)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signal_drains_every_client_and_exits_when_all_have_disconnected(
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
            message = await client.next()
            retry_after_ms.append(message["data"]["retry_after_ms"])
            assert message == session_draining(message, retry_after_ms[-1])
            assert await client.wait_closed() == (1012, "DRAINING")
        assert sorted(retry_after_ms) == list(range(10, 410, 10))
        assert await asyncio.to_thread(stopping.wait_ended) == 0
    assert [mark for mark in ERROR_MARKS if mark in stopping.log_text()] == []


async def test_reconnect_window_spreads_the_retry_times(server: MahavishnuServer, start_server: StartServer) -> None:
    stopping = start_server(
        beside=server,
        reconnect_window_seconds=0.1,
        drain_timeout_seconds=LONG_SECONDS,
        close_timeout_seconds=LONG_SECONDS,
    )
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connect(stopping)) for _ in range(20)]
        assert await stop(stopping) == 0
        retry_after_ms = [(await client.next())["data"]["retry_after_ms"] for client in clients]
        assert sorted(retry_after_ms) == list(range(5, 105, 5))


async def test_queued_events_are_sent_before_the_draining_message(
    server: MahavishnuServer, start_server: StartServer, unique: Callable[[str], str]
) -> None:
    stopping = start_server(beside=server, drain_timeout_seconds=LONG_SECONDS, close_timeout_seconds=LONG_SECONDS)
    channel = f"workflow:{unique('queued')}"
    async with open_raw(stopping.port, receive_buffer_bytes=SMALL_BUFFER_BYTES) as slow, connect(stopping) as witness:
        await slow.send(request("subscribe", channel=channel))
        assert (await slow.message())["type"] == "response"
        await witness.subscribe(channel)
        announce(server, channel, *[EVENT_BYTES] * 12)
        sent = await witness.events(12)
        stop_task = asyncio.create_task(stop(stopping))
        await witness.wait_closed()
        (*events, final_message), close = await all_messages(slow)
        assert events == sent
        assert final_message == session_draining(final_message, final_message["data"]["retry_after_ms"])
        assert close == (1012, "DRAINING")
        await slow.send(frame(Opcode.CLOSE, Close(1012, "").serialize()))
        assert await slow.ended()
        assert await stop_task == 0


class KeepAliveClient:
    """An HTTP connection that was opened before the shutdown."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def health(self) -> tuple[str, dict[str, Any]]:
        self.writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        length = int(head.lower().partition("content-length:")[2].split()[0])
        return head.splitlines()[0], json.loads(await self.reader.readexactly(length))


async def test_draining_server_reports_health_draining_and_refuses_connections(
    server: MahavishnuServer, start_server: StartServer
) -> None:
    stopping = start_server(beside=server, drain_timeout_seconds=LONG_SECONDS, close_timeout_seconds=LONG_SECONDS)
    http = KeepAliveClient(*await asyncio.open_connection(HOST, stopping.port))
    upgrading, upgrading_writer = await asyncio.open_connection(HOST, stopping.port)
    async with open_raw(stopping.port) as client:
        status, report = await http.health()
        assert (status, report["status"]) == ("HTTP/1.1 200 OK", "healthy")
        stop_task = asyncio.create_task(stop(stopping))
        assert (await client.message())["event"] == "session.draining"
        assert (await client.receive()).close() == (1012, "DRAINING")
        # The server waits for the client's close frame.
        status, draining = await http.health()
        assert status == "HTTP/1.1 503 Service Unavailable"
        assert draining == report | {"status": "draining"} | {
            name: draining[name] for name in ("connections", "relay_lag_ms", "log_seq", "delivered_events")
        }
        upgrading_writer.write(HANDSHAKE)
        assert (await upgrading.read()).startswith(b"HTTP/1.1 503 ")
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, stopping.port)
        await client.send(frame(Opcode.CLOSE, Close(1012, "").serialize()))
        assert await stop_task == 0
    for writer in (http.writer, upgrading_writer):
        writer.close()
    assert [mark for mark in ERROR_MARKS if mark in stopping.log_text()] == []


async def open_unresponsive(stack: AsyncExitStack, server: MahavishnuServer) -> RawClient:
    """Connect a client that never answers a close frame."""
    return await stack.enter_async_context(open_raw(server.port))


async def test_client_that_does_not_disconnect_in_time_is_dropped(
    server: MahavishnuServer, start_server: StartServer
) -> None:
    stopping = start_server(
        beside=server, drain_timeout_seconds=DRAIN_TIMEOUT_SECONDS, close_timeout_seconds=LONG_SECONDS
    )
    async with AsyncExitStack() as stack:
        await open_unresponsive(stack, stopping)
        assert await stop(stopping) == 0
    assert "1 clients did not disconnect in time" in stopping.log_text()
    assert "Traceback" not in stopping.log_text()


async def test_second_signal_exits_at_once(server: MahavishnuServer, start_server: StartServer) -> None:
    stopping = start_server(beside=server, drain_timeout_seconds=LONG_SECONDS, close_timeout_seconds=LONG_SECONDS)
    async with AsyncExitStack() as stack:
        unresponsive = await open_unresponsive(stack, stopping)
        stopping.signal(signal.SIGTERM)
        assert (await unresponsive.message())["event"] == "session.draining"
        assert await stop(stopping) == 128 + signal.SIGTERM


LOCK = """
import threading
from django.db import connection, transaction

def hold():
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("LOCK TABLE orchestration_pool IN ACCESS EXCLUSIVE MODE")
        locked.set()
        release.wait(30)

locked, release = threading.Event(), threading.Event()
threading.Thread(target=hold, daemon=True).start()
result = locked.wait(10)
"""


async def test_thread_that_waits_for_the_database_does_not_delay_the_exit(
    postgres_server: MahavishnuServer, start_server: StartServer
) -> None:
    stopping = start_server(beside=postgres_server, drain_timeout_seconds=4.0)
    lock_holder = stopping.driver()
    assert await asyncio.to_thread(lock_holder.execute, LOCK)
    try:
        async with connect(stopping) as client:
            await client.send({"type": "request", "event": "get_pool_status", "data": {"pool_id": "x"}, "id": "1"})
            await client.send({"type": "ping", "id": "2"})
            assert (await client.next())["type"] == "pong"
            assert await stop(stopping) == 1
            assert (await client.next())["event"] == "session.draining"
    finally:
        lock_holder.kill()
    assert "Graceful shutdown timed out" in stopping.log_text()
