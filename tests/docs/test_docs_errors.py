"""Every row of the error table of `docs/protocol.md`, triggered on a real server."""

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
from tests.harness.tokens import token
from tests.harness.waiting import eventually

ROWS = {row["error_code"]: row for row in table(page("docs/protocol.md"), first="error_code")}
MAX_CONNECTIONS = 4
NARROW_BYTES = 64 * 1024
NOTICED_WITHIN_SECONDS = 30

TOO_MANY_MESSAGES = Limits().max_message_burst + 4 * int(Limits().max_messages_per_second)
"""More than the burst, even if the sender is delayed by four seconds, and less than the grace period allows."""

ClientAndError = tuple[Client, Message]
Trigger = Callable[[MahavishnuServer], AbstractAsyncContextManager[ClientAndError]]


@pytest.fixture(scope="module")
def strict_server(start_module_server: StartServer) -> MahavishnuServer:
    return start_module_server(max_connections=MAX_CONNECTIONS, max_subscriptions=1)


async def first_error(client: Client) -> Message:
    while (message := await client.next())["type"] != "error":
        pass
    return message


async def expect_pong(client: Client) -> None:
    """Send a ping, again after each rate-limit error, until a pong arrives."""
    await client.send({"type": "ping", "id": "still there"})
    while (message := await client.next()).get("correlation_id") != "still there":
        if "retry_after_ms" in message:
            await asyncio.sleep(message["retry_after_ms"] / 1000)
            await client.send({"type": "ping", "id": "still there"})


def sending(*messages: str) -> Trigger:
    """Return a trigger whose client sends these messages."""

    @asynccontextmanager
    async def trigger(server: MahavishnuServer) -> AsyncIterator[ClientAndError]:
        async with connect(server) as client:
            for message in messages:
                await client.send_raw(message)
            yield client, await first_error(client)

    return trigger


def request(event: str, **data: object) -> str:
    return json.dumps({"type": "request", "event": event, "data": data})


@asynccontextmanager
async def request_with_missing_table(server: MahavishnuServer) -> AsyncIterator[ClientAndError]:
    async with connect(server) as client:
        await asyncio.to_thread(call_in, server, "hide_table", "orchestration_pool")
        try:
            yield client, await client.request("get_pool_status", pool_id="pool_local")
        finally:
            await asyncio.to_thread(call_in, server, "restore_table", "orchestration_pool")


@asynccontextmanager
async def connection_over_limit(server: MahavishnuServer) -> AsyncIterator[ClientAndError]:
    async with AsyncExitStack() as stack:
        for _ in range(MAX_CONNECTIONS):
            await stack.enter_async_context(connect(server))
        refused = await stack.enter_async_context(connect(server))
        yield refused, refused.welcome


@asynccontextmanager
async def slow_consumer(server: MahavishnuServer) -> AsyncIterator[ClientAndError]:
    with socket.socket() as narrow:
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW_BYTES)
        narrow.connect((HOST, server.port))
        # With a queue of one message, the client reads from the socket only when the test does.
        async with connect(server, sock=narrow, max_queue=1) as client:
            await client.subscribe("global")
            await asyncio.to_thread(call_in, server, "fill_send_queue")
            await eventually(
                lambda: "slow consumer" in server.log_text(),
                within_seconds=NOTICED_WITHIN_SECONDS,
                what="the close of the slow consumer",
            )
            yield client, await first_error(client)


@asynccontextmanager
async def subscribed_while_log_is_reset(server: MahavishnuServer) -> AsyncIterator[ClientAndError]:
    async with connect(server) as client:
        await client.subscribe("global")
        await asyncio.to_thread(server.manage, "renew_epoch")
        yield client, await first_error(client)


@asynccontextmanager
async def silence(server: MahavishnuServer) -> AsyncIterator[ClientAndError]:
    async with connect(server) as client:
        yield client, client.welcome


def presenting(credentials: Callable[[], str], *messages: str) -> Trigger:
    """Return a trigger whose client has a token that is made now, and sends these messages."""

    @asynccontextmanager
    async def trigger(server: MahavishnuServer) -> AsyncIterator[ClientAndError]:
        async with connect(server, additional_headers={"Authorization": f"Bearer {credentials()}"}) as client:
            for message in messages:
                await client.send_raw(message)
            yield client, await first_error(client) if messages else client.welcome

    return trigger


NEED_A_TOKEN = (ErrorCode.AUTH_REQUIRED, ErrorCode.AUTH_FAILED, ErrorCode.FORBIDDEN)

TRIGGERS: dict[ErrorCode, Trigger] = {
    ErrorCode.UNKNOWN_REQUEST: sending(request("make_coffee")),
    ErrorCode.INVALID_CHANNEL: sending(request("subscribe", channel="planet:mars")),
    ErrorCode.NOT_FOUND: sending(request("get_pool_status", pool_id="pool_nowhere")),
    ErrorCode.SERVER_ERROR: request_with_missing_table,
    ErrorCode.INVALID_MESSAGE: sending("subscribe, please"),
    ErrorCode.MESSAGE_TOO_BIG: sending("x" * (Limits().max_message_bytes + 1)),
    ErrorCode.RATE_LIMIT_EXCEEDED: sending(*[json.dumps({"type": "ping"})] * TOO_MANY_MESSAGES),
    ErrorCode.TOO_MANY_CONNECTIONS: connection_over_limit,
    ErrorCode.TOO_MANY_SUBSCRIPTIONS: sending(
        request("subscribe", channel="worker:one"), request("subscribe", channel="worker:two")
    ),
    ErrorCode.SLOW_CONSUMER: slow_consumer,
    ErrorCode.EVENTS_TRIMMED: subscribed_while_log_is_reset,
    ErrorCode.AUTH_REQUIRED: silence,
    ErrorCode.AUTH_FAILED: presenting(lambda: "open-sesame"),
    ErrorCode.FORBIDDEN: presenting(lambda: token("pool:read"), request("subscribe", channel="global")),
}


def test_error_table_lists_every_code() -> None:
    assert list(ROWS) == [code.value for code in ErrorCode]


@pytest.mark.parametrize("code", ErrorCode)
async def test_error_matches_its_row(request: pytest.FixtureRequest, code: ErrorCode) -> None:
    row = ROWS[code]
    server = request.getfixturevalue("closed_server" if code in NEED_A_TOKEN else "strict_server")
    async with TRIGGERS[code](server) as (client, error):
        assert error["error_code"] == code
        assert error["retryable"] == {"yes": True, "no": False}[row["retryable"]]
        if row["Connection"] == "stays open":
            await expect_pong(client)
        else:
            close_code, reason = await client.wait_closed()
            assert (f"closed {close_code}", reason) == (row["Connection"], code)
