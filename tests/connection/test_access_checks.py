"""Open connections end when their tokens are revoked or their logins end: in every process, without Redis too."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError

from realtime.auth import revocation
from realtime.auth.identity import Identity
from realtime.auth.revocation import revoke_user
from tests.connection.in_process import connected, server_parts
from tests.harness.client import Client, connect
from tests.harness.fixtures import StartServer
from tests.harness.server import MahavishnuServer
from tests.harness.tokens import REQUIRES_AUTH, token
from tests.harness.valkey import Valkey
from tests.harness.waiting import eventually
from tests.site.web_replicas import listening, only, processes_of

WITHIN_SECONDS = 2.0
CLIENTS_PER_PROCESS = 3


@pytest.fixture
async def parts(valkey: Valkey) -> AsyncIterator[None]:
    async with server_parts():
        yield
    revocation._table.tokens = revocation.RevokedTokens()


@pytest.mark.django_db(transaction=True)
async def test_revoked_connection_ends_and_others_stay(parts: None) -> None:
    ada = Identity(user_id="ada", permissions=("global:read",), issued_at=time.time() - 60)
    bob = Identity(user_id="bob", permissions=("global:read",), issued_at=time.time() - 60)
    async with connected(ada) as revoked, connected(bob) as other:
        await sync_to_async(revoke_user)("ada")
        begin = time.monotonic()
        error, close = await revoked.next(), await revoked.next()
        assert time.monotonic() - begin < WITHIN_SECONDS
        assert (error["error_code"], close["code"]) == ("AUTH_FAILED", 1008)
        assert await other.error_code("subscribe", channel="global") is None


@pytest.mark.django_db(transaction=True)
async def test_failed_read_keeps_what_was_revoked(
    parts: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ada = Identity(user_id="ada", permissions=(), issued_at=time.time() - 60)
    bob = Identity(user_id="bob", permissions=())
    await sync_to_async(revoke_user)("ada")
    async with connected(bob):
        reads = 0

        def fail() -> None:
            nonlocal reads
            reads += 1
            raise OperationalError("the database is down")

        monkeypatch.setattr(revocation._table, "read", fail)
        with caplog.at_level(logging.WARNING):
            await eventually(lambda: reads >= 2, what="two failed reads")
            async with connected(ada) as revoked:
                assert (await revoked.next())["error_code"] == "AUTH_FAILED"
    lines = [line for line in caplog.messages if line.startswith("Reading the revoked tokens failed")]
    assert len(lines) == 1


async def expect_end(client: Client) -> None:
    async with asyncio.timeout(WITHIN_SECONDS):
        assert (await client.next())["error_code"] == "AUTH_FAILED"
    assert await client.wait_closed() == (1008, "AUTH_FAILED")


async def test_revocation_reaches_every_process_while_redis_is_down_and_survives_a_restart(
    start_server: StartServer,
) -> None:
    server: MahavishnuServer = start_server(processes=2, environment=REQUIRES_AUTH)
    headers = {"Authorization": f"Bearer {token('admin', user_id='ada')}"}
    others = {"Authorization": f"Bearer {token('admin', user_id='bob')}"}
    await eventually(lambda: len(listening(server)) == server.processes)
    async with AsyncExitStack() as stack:
        clients: list[Client] = []
        for process in processes_of(server):
            async with only(server, process):
                for _ in range(CLIENTS_PER_PROCESS):
                    clients.append(await stack.enter_async_context(connect(server, additional_headers=headers)))
        other = await stack.enter_async_context(connect(server, additional_headers=others))
        server.valkey.kill()
        await asyncio.to_thread(server.manage, "revoke_token", "--user", "ada")
        await asyncio.gather(*map(expect_end, clients))
        async with connect(server, additional_headers=headers) as refused:
            assert refused.welcome["error_code"] == "AUTH_FAILED"
        await other.send({"type": "ping", "id": "p"})
        assert (await other.next())["type"] == "pong"
    server.valkey.ensure_running()
    await asyncio.to_thread(server.restart)
    async with connect(server, additional_headers=headers) as refused:
        assert refused.welcome["error_code"] == "AUTH_FAILED"
