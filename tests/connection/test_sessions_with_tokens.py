"""Connections whose credentials expire, are renewed or end, on a real daphne."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.auth.token_signing import SECRET_VARIABLES
from tests.harness.client import Client, connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import token


@pytest.fixture(scope="module")
def open_server(start_module_server: StartServer) -> MahavishnuServer:
    """Provide a server that requires no token, and could verify one."""
    return start_module_server(environment=SECRET_VARIABLES, max_auth_failures_per_minute=0)


@asynccontextmanager
async def with_token(server: MahavishnuServer, value: str) -> AsyncIterator[Client]:
    async with connect(server, additional_headers={"Authorization": f"Bearer {value}"}) as client:
        assert client.welcome["event"] == "session.created"
        yield client


async def expect_auth_failed(client: Client) -> None:
    error = await client.next()
    assert (error["type"], error["error_code"]) == ("error", "AUTH_FAILED")
    assert await client.wait_closed() == (1008, "AUTH_FAILED")


async def test_expiry_is_announced_and_ends_the_connection(closed_server: MahavishnuServer) -> None:
    value = token("admin", seconds=2)
    expires_at = int(time.time() + 2)
    async with with_token(closed_server, value) as client:
        await client.subscribe("global")
        expiring = await client.next()
        assert expiring["event"] == "session.expiring"
        assert 0 < expiring["data"]["expires_in_ms"] <= 1000
        assert time.time() < expires_at
        await expect_auth_failed(client)
        assert expires_at <= time.time() + 0.01 < expires_at + 1


async def test_refresh_continues_the_connection_beyond_the_first_token(closed_server: MahavishnuServer) -> None:
    async with with_token(closed_server, token("admin", seconds=2)) as client:
        await client.event("session.expiring")
        answer = await client.request("refresh_token", token=token("global:read", seconds=4))
        assert (answer["type"], answer["data"]["permissions"]) == ("response", ["global:read"])
        # The second token is announced to expire: so the end of the first one did not close the connection.
        await client.event("session.expiring")
        assert (await client.subscribe("global"))["data"]["status"] == "subscribed"


async def test_smaller_token_leaves_the_channels_it_does_not_permit(closed_server: MahavishnuServer) -> None:
    async with with_token(closed_server, token("admin")) as client:
        for channel in ("workflow:kept", "workflow:lost", "global", "summary"):
            await client.subscribe(channel)
        answer = await client.request("refresh_token", token=token("workflow:read:kept"))
        assert answer["type"] == "response"
        ended = [(await client.next())["data"] for _ in range(3)]
        assert ended == [
            {"channel": channel, "reason": "forbidden"} for channel in ("global", "summary", "workflow:lost")
        ]
        services = closed_server.services
        services.create_workflow(workflow_id="lost", adapter="python", prompt="x", stages=["only"])
        services.create_workflow(workflow_id="kept", adapter="python", prompt="x", stages=["only"])
        event = await client.next()
        assert (event["event"], event["room"]) == ("workflow.created", "workflow:kept")


@pytest.mark.parametrize("value", ["open-sesame", token("admin", user_id="grace"), token("admin", seconds=-31)])
async def test_refresh_with_a_token_of_another_user_or_a_bad_one_ends_the_connection(
    closed_server: MahavishnuServer, value: str
) -> None:
    async with with_token(closed_server, token("admin")) as client:
        await client.send({"type": "request", "event": "refresh_token", "data": {"token": value}, "id": "r"})
        await expect_auth_failed(client)


async def test_auth_on_an_authenticated_connection_changes_nothing(closed_server: MahavishnuServer) -> None:
    async with with_token(closed_server, token("workflow:read")) as client:
        answer = await client.request("auth", token=token("admin"))
        assert answer["error_code"] == "INVALID_MESSAGE"
        assert (await client.request("subscribe", channel="global"))["error_code"] == "FORBIDDEN"


async def test_open_server_takes_the_identity_of_a_token_once(open_server: MahavishnuServer) -> None:
    async with connect(open_server) as client:
        assert client.welcome["event"] == "session.created"
        assert "user_id" not in client.welcome["data"]
        await client.subscribe("global")
        assert (await client.request("refresh_token", token=token("admin")))["error_code"] == "INVALID_MESSAGE"
        answer = await client.request("auth", token=token("workflow:read"))
        assert answer["data"]["user_id"] == "ada"
        assert (await client.event("session.unsubscribed"))["data"]["channel"] == "global"
        assert (await client.request("auth", token=token("admin")))["error_code"] == "INVALID_MESSAGE"


async def test_open_server_verifies_a_token_that_is_presented(open_server: MahavishnuServer) -> None:
    async with connect(open_server, additional_headers={"Authorization": "Bearer open-sesame"}) as client:
        assert client.welcome["error_code"] == "AUTH_FAILED"
    async with with_token(open_server, token("workflow:read")) as client:
        assert client.welcome["data"]["user_id"] == "ada"
        assert (await client.request("subscribe", channel="global"))["error_code"] == "FORBIDDEN"


async def test_subprotocol_without_a_token_is_answered_by_an_open_server(open_server: MahavishnuServer) -> None:
    async with connect(open_server, subprotocols=["other", "mahavishnu.v1"]) as client:
        assert client.connection.subprotocol == "mahavishnu.v1"
        assert client.welcome["event"] == "session.created"
