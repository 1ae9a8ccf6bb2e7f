"""The ways in of a server that requires tokens, on a real daphne."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect as websocket_connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from tests.auth.token_cases import JWKS_CASES, SECRET_CASES, TokenCase
from tests.auth.token_signing import jwks_variables
from tests.harness.client import Client, Message
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import REQUIRES_AUTH, token

SENTENCE = "The token is invalid or expired"


@asynccontextmanager
async def opened(server: MahavishnuServer, **options: Any) -> AsyncIterator[Client]:
    """Open a connection, and read nothing."""
    async with websocket_connect(server.ws_url, compression=None, ping_interval=None, **options) as connection:
        yield Client(connection)


Way = Callable[[MahavishnuServer, str], AbstractAsyncContextManager[Client]]


@asynccontextmanager
async def by_header(server: MahavishnuServer, value: str) -> AsyncIterator[Client]:
    async with opened(server, additional_headers={"Authorization": f"Bearer {value}"}) as client:
        yield client


@asynccontextmanager
async def by_subprotocol(server: MahavishnuServer, value: str) -> AsyncIterator[Client]:
    offered = [Subprotocol("mahavishnu.v1"), Subprotocol(f"bearer.{value}")]
    async with opened(server, subprotocols=offered) as client:
        assert client.connection.subprotocol == "mahavishnu.v1"
        yield client


@asynccontextmanager
async def by_message(server: MahavishnuServer, value: str) -> AsyncIterator[Client]:
    async with opened(server) as client:
        await client.send({"type": "request", "event": "auth", "data": {"token": value}, "id": "auth_1"})
        yield client


WAYS = {"header": by_header, "subprotocol": by_subprotocol, "message": by_message}


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


async def expect_refused(client: Client, code: str = "AUTH_FAILED") -> Message:
    error = await client.next()
    assert (error["type"], error["error_code"], error["retryable"]) == ("error", code, False)
    if code == "AUTH_FAILED":
        assert error["error_message"] == SENTENCE
    assert await client.wait_closed() == (1008, code)
    assert client.waiting() == []
    return error


async def test_token_lets_in_by_every_way(closed_server: MahavishnuServer, way: Way) -> None:
    async with way(closed_server, token("workflow:read", user_id="grace", jti="t1")) as client:
        welcome = await client.next()
        if way is by_message:
            assert (welcome["type"], welcome["event"], welcome["correlation_id"]) == ("response", "auth", "auth_1")
            assert welcome["data"]["user_id"] == "grace"
            assert welcome["data"]["permissions"] == ["workflow:read"]
            expires_at = welcome["data"]["expires_at"]
            welcome = await client.next()
            assert welcome["data"]["expires_at"] == expires_at
        assert (welcome["event"], welcome["data"]["user_id"]) == ("session.created", "grace")
        assert (await client.subscribe("workflow:a"))["data"]["status"] == "subscribed"


@pytest.mark.parametrize("case", SECRET_CASES, ids=repr)
async def test_token_is_accepted_or_refused_with_one_sentence_by_every_way(
    closed_server: MahavishnuServer, case: TokenCase
) -> None:
    value = case.token()
    for way in WAYS.values() if case.fits_header else (by_message,):
        await expect(case, closed_server, way, value)


async def expect(case: TokenCase, server: MahavishnuServer, way: Way, value: str) -> None:
    """Check that a token lets in, or is refused with the one sentence."""
    async with way(server, value) as client:
        if case.accepted:
            assert (await client.event("session.created"))["data"]["user_id"] == case.user_id
        else:
            error = await expect_refused(client)
            assert (error["event"], error.get("correlation_id")) == (
                ("auth", "auth_1") if way is by_message else ("error", None)
            )


async def test_tokens_of_an_issuer_are_accepted_or_refused_by_every_way(
    start_server: StartServer, tmp_path: Path
) -> None:
    environment = {"MAHAVISHNU_REQUIRE_AUTH": "1", **jwks_variables(tmp_path)}
    server = start_server(environment=environment, max_auth_failures_per_minute=0)
    for case in JWKS_CASES:
        value = case.token()
        for way in WAYS.values() if case.fits_header else (by_message,):
            await expect(case, server, way, value)


async def test_token_within_the_leeway_of_clocks_lets_in(closed_server: MahavishnuServer, way: Way) -> None:
    async with way(closed_server, token("admin", seconds=-5, iat=...)) as client:
        welcome = await client.event("session.created")
        assert welcome["data"]["expires_at"] < welcome["timestamp"]
        assert (await client.subscribe("global"))["data"]["status"] == "subscribed"


@pytest.mark.parametrize(
    "message",
    [
        '{"type": "ping", "id": "p"}',
        '{"type": "request", "event": "subscribe", "data": {"channel": "global"}}',
        '{"type": "request", "event": "refresh_token", "data": {"token": "x"}}',
        "hello",
        b"\x00\x01",
    ],
)
async def test_another_first_message_is_answered_auth_required(
    closed_server: MahavishnuServer, message: str | bytes
) -> None:
    async with opened(closed_server) as client:
        await client.send_raw(message)
        await client.send({"type": "request", "event": "auth", "data": {"token": token("admin")}})
        await expect_refused(client, "AUTH_REQUIRED")


async def test_silent_client_is_closed_after_the_timeout(closed_server: MahavishnuServer) -> None:
    async with opened(closed_server) as client:
        await expect_refused(client, "AUTH_REQUIRED")


async def test_first_message_is_limited(closed_server: MahavishnuServer) -> None:
    async with opened(closed_server) as client:
        await client.send(
            {"type": "request", "event": "auth", "data": {"token": token("admin")}, "padding": "x" * 16384}
        )
        assert (await client.next())["error_code"] == "MESSAGE_TOO_BIG"
        assert await client.wait_closed() == (1009, "MESSAGE_TOO_BIG")


async def test_malformed_auth_is_refused(closed_server: MahavishnuServer) -> None:
    async with opened(closed_server) as client:
        await client.send({"type": "request", "event": "auth", "data": {"token": 5}, "id": "a"})
        assert (await expect_refused(client))["correlation_id"] == "a"


async def test_two_different_tokens_are_refused(closed_server: MahavishnuServer) -> None:
    first, second = token("admin"), token("admin", jti="other")
    offered = [Subprotocol("mahavishnu.v1"), Subprotocol(f"bearer.{second}")]
    headers = {"Authorization": f"Bearer {first}"}
    async with opened(closed_server, additional_headers=headers, subprotocols=offered) as client:
        await expect_refused(client)


@pytest.mark.parametrize("query", ["token=x", "ACCESS_TOKEN=x", "a=1&jwt=x", "next=" + token("admin")])
async def test_token_in_the_url_is_refused_with_a_sentence(closed_server: MahavishnuServer, query: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with websocket_connect(f"{closed_server.ws_url}/?{query}"):
            pass
    response = refused.value.response
    assert response.status_code == 400
    assert b"must not be in a URL" in (response.body or b"")


async def test_waiting_connections_of_one_address_are_limited(closed_server: MahavishnuServer) -> None:
    async with opened(closed_server), opened(closed_server), opened(closed_server), opened(closed_server) as client:
        error = await client.next()
        assert error["error_code"] == "TOO_MANY_CONNECTIONS"
        assert await client.wait_closed() == (1013, "TOO_MANY_CONNECTIONS")
        async with by_header(closed_server, token("admin")) as other:
            assert (await other.next())["event"] == "session.created"


async def test_no_token_is_in_the_log(closed_server: MahavishnuServer) -> None:
    secret = token("admin", user_id="unlogged", jti="logged-id")
    for way in WAYS.values():
        async with way(closed_server, secret) as client:
            assert (await client.next())["type"] != "error"
        async with way(closed_server, secret + "x") as client:
            await expect_refused(client)
    # The library refuses to offer the same one twice; a client may.
    reader, writer = await asyncio.open_connection("127.0.0.1", closed_server.port)
    offer = f"mahavishnu.v1, bearer.{secret}, bearer.{secret}"
    writer.write(
        b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Protocol: " + offer.encode() + b"\r\n\r\n"
    )
    answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert answer.startswith(b"HTTP/1.1 400 ")
    log = closed_server.log_text()
    assert "logged-id" in log
    for part in secret.split("."):
        assert part.encode() not in answer
        assert part not in log


async def test_failures_of_one_address_make_it_wait(start_server: StartServer) -> None:
    server = start_server(environment=REQUIRES_AUTH, max_auth_failures_per_minute=2)
    for _ in range(2):
        async with by_header(server, "wrong") as client:
            await expect_refused(client)
    with pytest.raises(InvalidStatus) as refused:
        async with by_header(server, token("admin")):
            pass
    assert refused.value.response.status_code == 429
    assert 0 < int(refused.value.response.headers["Retry-After"]) <= 60
    assert server.log_text().count("Refused a handshake") == 1
