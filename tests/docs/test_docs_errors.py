"""Every row of the error table of `docs/protocol.md`, caused on a real server."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest

from realtime.limits import Limits
from realtime.protocol.errors import ErrorCode
from tests.docs.example_run import call_in
from tests.docs.markdown import page, table
from tests.harness.client import Client, Message, connect
from tests.harness.fixtures import StartServer
from tests.harness.ports import HOST
from tests.harness.server import MahavishnuServer
from tests.harness.waiting import wait_until

ROWS = {row["error_code"]: row for row in table(page("docs/protocol.md"), first="error_code")}
MAX_CONNECTIONS = 4
NARROW_BYTES = 64 * 1024
NOTICED_WITHIN_SECONDS = 30

TOO_MANY_MESSAGES = Limits().max_message_burst + int(Limits().max_messages_per_second)
"""As many as would be allowed if whoever sends them were held up for a second."""

Sufferer = tuple[Client, Message]
Cause = Callable[[MahavishnuServer], AbstractAsyncContextManager[Sufferer]]


@pytest.fixture(scope="module")
def strict_server(start_shared_server: StartServer) -> MahavishnuServer:
    return start_shared_server(max_connections=MAX_CONNECTIONS, max_subscriptions=1)


async def first_error(client: Client) -> Message:
    while (message := await client.next())["type"] != "error":
        pass
    return message


async def expect_to_be_answered(client: Client) -> None:
    """Send a ping, and again whenever one that was sent too soon is refused, until one is answered."""
    await client.send({"type": "ping", "id": "still there"})
    while (message := await client.next()).get("correlation_id") != "still there":
        if "retry_after_ms" in message:
            await asyncio.sleep(message["retry_after_ms"] / 1000)
            await client.send({"type": "ping", "id": "still there"})


def sending(*messages: str) -> Cause:
    """The connection that sends these."""

    @asynccontextmanager
    async def cause(server: MahavishnuServer) -> AsyncIterator[Sufferer]:
        async with connect(server) as client:
            for message in messages:
                await client.send_raw(message)
            yield client, await first_error(client)

    return cause


def request(event: str, **data: object) -> str:
    return json.dumps({"type": "request", "event": event, "data": data})


@asynccontextmanager
async def asking_while_a_table_is_gone(server: MahavishnuServer) -> AsyncIterator[Sufferer]:
    async with connect(server) as client:
        await asyncio.to_thread(call_in, server, "lose_table", "orchestration_pool")
        try:
            yield client, await client.request("get_pool_status", pool_id="pool_local")
        finally:
            await asyncio.to_thread(call_in, server, "find_table", "orchestration_pool")


@asynccontextmanager
async def one_connection_too_many(server: MahavishnuServer) -> AsyncIterator[Sufferer]:
    async with AsyncExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            await stack.enter_async_context(connect(server))
        refused = await stack.enter_async_context(connect(server))
        yield refused, refused.welcome


@asynccontextmanager
async def not_reading(server: MahavishnuServer) -> AsyncIterator[Sufferer]:
    with socket.socket() as narrow:
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
        narrow.connect((HOST, server.port))
        # With a queue of one message the client stops reading while nobody asks it for more.
        async with connect(server, sock=narrow, max_queue=1) as client:
            await client.subscribe("global")
            await asyncio.to_thread(call_in, server, "tell_much")
            await asyncio.to_thread(
                wait_until,
                lambda: "reads too slowly" in server.log_text(),
                timeout_seconds=NOTICED_WITHIN_SECONDS,
                what="the end of the server's patience",
            )
            yield client, await first_error(client)


@asynccontextmanager
async def being_there_when_the_log_is_replaced(server: MahavishnuServer) -> AsyncIterator[Sufferer]:
    async with connect(server) as client:
        await client.subscribe("global")
        await asyncio.to_thread(call_in, server, "renew_epoch")
        yield client, await first_error(client)


CAUSES: dict[ErrorCode, Cause] = {
    ErrorCode.UNKNOWN_REQUEST: sending(request("make_coffee")),
    ErrorCode.INVALID_CHANNEL: sending(request("subscribe", channel="planet:mars")),
    ErrorCode.NOT_FOUND: sending(request("get_pool_status", pool_id="pool_nowhere")),
    ErrorCode.SERVER_ERROR: asking_while_a_table_is_gone,
    ErrorCode.INVALID_MESSAGE: sending("subscribe, please"),
    ErrorCode.MESSAGE_TOO_BIG: sending("x" * (Limits().max_message_bytes + 1)),
    ErrorCode.RATE_LIMIT_EXCEEDED: sending(*[json.dumps({"type": "ping"})] * TOO_MANY_MESSAGES),
    ErrorCode.TOO_MANY_CONNECTIONS: one_connection_too_many,
    ErrorCode.TOO_MANY_SUBSCRIPTIONS: sending(
        request("subscribe", channel="worker:one"), request("subscribe", channel="worker:two")
    ),
    ErrorCode.SLOW_CONSUMER: not_reading,
    ErrorCode.EVENTS_TRIMMED: being_there_when_the_log_is_replaced,
}


def test_every_error_code_is_listed() -> None:
    assert list(ROWS) == [code.value for code in ErrorCode]


@pytest.mark.parametrize("code", ErrorCode)
async def test_an_error_is_as_its_row_says(strict_server: MahavishnuServer, code: ErrorCode) -> None:
    row = ROWS[code]
    async with CAUSES[code](strict_server) as (sufferer, error):
        assert error["error_code"] == code
        assert error["retryable"] == {"yes": True, "no": False}[row["retryable"]]
        if row["Then"] == "stays open":
            await expect_to_be_answered(sufferer)
        else:
            close_code, reason = await sufferer.wait_closed()
            assert (f"closed {close_code}", reason) == (row["Then"], code)
