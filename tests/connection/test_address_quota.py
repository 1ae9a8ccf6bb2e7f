"""Quotas of addresses: no address can hold every connection, and none can choose the address it is counted as."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import AsyncExitStack, suppress
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from realtime.connection import address_quota
from realtime.connection.address_quota import ConnectRates, OpenConnections, quota_owner
from realtime.connection.client_address import client_address
from realtime.limits import Limits
from tests.connection.raw_client import HANDSHAKE
from tests.daphne_server.endpoints import run_command
from tests.harness.client import Client, connect
from tests.harness.fixtures import StartServer
from tests.harness.matchers import an_error
from tests.harness.ports import HOST, free_port
from tests.harness.server import MahavishnuServer

MAX_OF_ADDRESS = 2
TIMEOUT_SECONDS = 40

BEHIND_PROXIES = {"MAHAVISHNU_TRUSTED_PROXIES": "127.0.0.0/24", "MAHAVISHNU_OPEN_TO_EVERYONE": "1"}

numbers = itertools.count(10)

TOO_MANY = an_error(
    "TOO_MANY_CONNECTIONS",
    f"Connection limit of one address reached ({MAX_OF_ADDRESS}); try again later",
    retryable=True,
)


@pytest.fixture(scope="module")
def server(start_module_server: StartServer) -> MahavishnuServer:
    """Start a server behind proxies, that counts clients on this machine too."""
    return start_module_server(max_connections_per_address=MAX_OF_ADDRESS, environment=BEHIND_PROXIES)


def a_proxy() -> str:
    """Return a new address of this machine that the server trusts; without forwarding, it is that of a client."""
    return f"127.0.0.{next(numbers)}"


def an_untrusted_peer() -> str:
    return f"127.1.0.{next(numbers)}"


class Crowd:
    """Connections that stay open until the end of the test."""

    def __init__(self, server: MahavishnuServer, stack: AsyncExitStack) -> None:
        self._server = server
        self._stack = stack

    async def join(self, *, peer: str, forwarded_for: str | None = None) -> Client:
        """Connect from an address of this machine, as a proxy does if `forwarded_for` is given."""
        headers = {} if forwarded_for is None else {"X-Forwarded-For": forwarded_for}
        options: dict[str, Any] = {"local_addr": (peer, 0), "additional_headers": headers}
        return await self._stack.enter_async_context(connect(self._server, **options))


async def is_accepted(client: Client) -> bool:
    if client.welcome["event"] == "session.created":
        return True
    assert client.welcome == TOO_MANY
    assert await client.wait_closed() == (1013, "TOO_MANY_CONNECTIONS")
    return False


async def test_address_cannot_hold_the_connections_of_others(server: MahavishnuServer) -> None:
    async with AsyncExitStack() as stack:
        crowd, peer = Crowd(server, stack), a_proxy()
        clients = [await crowd.join(peer=peer) for _ in range(MAX_OF_ADDRESS)]
        assert [await is_accepted(client) for client in clients] == [True] * MAX_OF_ADDRESS
        for _ in range(2):
            assert not await is_accepted(await crowd.join(peer=peer))
        assert await is_accepted(await crowd.join(peer=a_proxy()))
        # The address in the line is that of the first test.
        assert f" has {MAX_OF_ADDRESS} connections (MAHAVISHNU_MAX_CONNECTIONS_PER_ADDRESS)" in server.log_text()
        await clients[0].connection.close()
        async with asyncio.timeout(TIMEOUT_SECONDS):
            while not await is_accepted(await crowd.join(peer=peer)):  # noqa: ASYNC110 (no event for it)
                await asyncio.sleep(0.05)


SAME_OWNER = {
    "addresses of one IPv6 network": ["2001:db8::1", "2001:db8::2", "2001:db8:0:0:ffff::1"],
    "notations of one IPv4 address": ["192.0.2.1", "::ffff:192.0.2.1", "[::ffff:c000:201]:50"],
    "forged addresses before the client's": ["1.1.1.1, 192.0.2.2", "2.2.2.2,192.0.2.2", "unknown, 192.0.2.2"],
    "a chain of proxies": ["192.0.2.3", "192.0.2.3, 127.0.0.9", "1.1.1.1, 192.0.2.3, 127.0.0.8, 127.0.0.9"],
}


@pytest.mark.parametrize("forwarded", SAME_OWNER.values(), ids=list(SAME_OWNER))
async def test_clients_behind_a_proxy_are_counted_by_their_own_address(
    server: MahavishnuServer, forwarded: list[str]
) -> None:
    async with AsyncExitStack() as stack:
        crowd, peer = Crowd(server, stack), a_proxy()
        found = [await is_accepted(await crowd.join(peer=peer, forwarded_for=address)) for address in forwarded]
        assert found == [True] * MAX_OF_ADDRESS + [False]
        # The proxy itself, and clients of other addresses, have their own quotas.
        assert await is_accepted(await crowd.join(peer=peer))
        for address in (f"2001:db8:{next(numbers)}::1", f"198.51.100.{next(numbers)}"):
            assert await is_accepted(await crowd.join(peer=peer, forwarded_for=address))


async def test_forwarding_headers_of_others_are_ignored(server: MahavishnuServer) -> None:
    async with AsyncExitStack() as stack:
        crowd, peer = Crowd(server, stack), an_untrusted_peer()
        found = [
            await is_accepted(await crowd.join(peer=peer, forwarded_for=f"192.0.2.{number}"))
            for number in range(10, 13)
        ]
        assert found == [True] * MAX_OF_ADDRESS + [False]


async def answer_from(port: int, *data: bytes, peer: str) -> bytes:
    """Send data from an address, and return all that is answered until the server closes or has accepted."""
    reader, writer = await asyncio.open_connection(HOST, port, local_addr=(peer, 0))
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            with suppress(ConnectionError):
                writer.write(b"".join(data))
                await writer.drain()
            return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.transport.abort()


async def test_address_cannot_hold_the_http_connections_of_others(server: MahavishnuServer) -> None:
    peer = an_untrusted_peer()
    idle = [await asyncio.open_connection(HOST, server.port, local_addr=(peer, 0)) for _ in range(MAX_OF_ADDRESS)]
    get = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    try:
        # The server accepts in order: it has counted the idle ones when it answers this one.
        answer = await answer_from(server.port, get, peer=peer)
        assert answer.startswith(b"HTTP/1.1 429 ")
        assert b"\r\nRetry-After: 1\r\n" in answer
        assert (await answer_from(server.port, get, peer=an_untrusted_peer())).startswith(b"HTTP/1.1 200 ")
    finally:
        for _reader, writer in idle:
            writer.transport.abort()


async def test_address_cannot_connect_faster_than_its_rate(start_server: StartServer) -> None:
    server = start_server(
        max_connections_per_address=100,
        max_connect_burst=3,
        max_connects_per_second=0.1,
        environment=BEHIND_PROXIES,
    )
    async with AsyncExitStack() as stack:
        crowd, proxy, peer = Crowd(server, stack), a_proxy(), an_untrusted_peer()
        for forwarded_for in ("192.0.2.1", "192.0.2.1", "203.0.113.9, 192.0.2.1"):
            await crowd.join(peer=proxy, forwarded_for=forwarded_for)
        with pytest.raises(InvalidStatus) as rejected:
            await crowd.join(peer=proxy, forwarded_for="203.0.113.10, 192.0.2.1")
        assert rejected.value.response.status_code == 429
        assert 0 < int(rejected.value.response.headers["Retry-After"]) <= 10
        await crowd.join(peer=proxy, forwarded_for="192.0.2.2")
        # Without a proxy, each connection counts, and a header changes nothing.
        for number in range(3):
            handshake = HANDSHAKE.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 192.0.2.%d\r\n\r\n" % number)
            answer = await answer_from(server.port, handshake, peer=peer)
            assert answer.startswith(b"HTTP/1.1 101 ")
        assert (await answer_from(server.port, HANDSHAKE, peer=peer)).startswith(b"HTTP/1.1 429 ")
        await crowd.join(peer=an_untrusted_peer())
    assert server.log_text().count("too many new connections a second (MAHAVISHNU_MAX_CONNECTS_PER_SECOND)") == 2


async def test_rejected_connections_take_no_places_of_others(start_server: StartServer) -> None:
    """An address connects without pause, and does not close what is rejected."""
    accepted, places = 5, 20
    server = start_server(
        max_http_connections=places,
        max_connections_per_address=100,
        max_connect_burst=accepted,
        max_connects_per_second=0.1,
        open_timeout_seconds=600,
        close_timeout_seconds=600,
        environment=BEHIND_PROXIES,
    )
    peer = an_untrusted_peer()
    held = []
    answered = 0
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            for _ in range(3 * places):
                # A reset may arrive before `connect` returns.
                with suppress(ConnectionError):
                    held.append(await asyncio.open_connection(HOST, server.port, local_addr=(peer, 0)))
            # The server accepts in order: these are the rejected ones.
            for reader, _writer in held[accepted:]:
                with suppress(ConnectionError):
                    answered += (await reader.read()).startswith(b"HTTP/1.1 429 ")
        assert answered == places, "the further ones are reset: what waits for its client is bounded"
        get = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
        assert (await answer_from(server.port, get, peer=an_untrusted_peer())).startswith(b"HTTP/1.1 200 ")
    finally:
        for _reader, writer in held:
            writer.transport.abort()


async def test_daphne_reads_the_headers_of_trusted_proxies_only(server: MahavishnuServer) -> None:
    port = free_port()
    command = ("daphne", "--proxy-headers", "--port", str(port), "--bind", HOST, "--verbosity", "0")
    rejected = HANDSHAKE.replace(
        b"\r\n\r\n",
        b"\r\nOrigin: https://evil.example\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 1.1.1.1, 192.0.2.1\r\n\r\n",
    )
    with run_command(server, *command, "mahavishnu_site.asgi:application", port=port):
        for peer in (a_proxy(), an_untrusted_peer()):
            assert (await answer_from(port, rejected, peer=peer)).startswith(b"HTTP/1.1 403 ")
    log = (server.var_dir / "daphne.log").read_text()
    assert "Rejected a WebSocket handshake from 192.0.2.1:0: origin" in log
    assert f"Rejected a WebSocket handshake from {peer}:" in log


def test_local_clients_have_a_quota_once_the_server_is_exposed_or_the_quota_is_set(settings: Any) -> None:
    settings.MAHAVISHNU_EXPOSED = False
    local, forwarded = client_address("127.0.0.1", []), client_address("127.0.0.1", ["127.0.0.1"])
    remote, unix_socket = client_address("192.0.2.1", []), client_address(None, [])
    assert [quota_owner(client) for client in (local, unix_socket)] == [None, None]
    assert [quota_owner(client) for client in (forwarded, remote)] == ["127.0.0.1", "192.0.2.1"]
    for name in ("MAHAVISHNU_EXPOSED", "MAHAVISHNU_COUNTS_LOOPBACK"):
        setattr(settings, name, True)
        assert [quota_owner(client) for client in (local, unix_socket)] == ["127.0.0.1", None]
        setattr(settings, name, False)


def test_quota_of_zero_is_none(settings: Any) -> None:
    settings.MAHAVISHNU_LIMITS = Limits(max_connections_per_address=0)
    assert quota_owner(client_address("192.0.2.1", [])) is None


def test_connections_of_an_owner_are_counted_until_they_end() -> None:
    counts = OpenConnections()
    assert [counts.add("a"), counts.add("a"), counts.add("b"), counts.add(None)] == [1, 2, 1, 0]
    counts.remove("a")
    counts.remove(None)
    assert counts.add("a") == 2
    for owner in ("a", "a", "b"):
        counts.remove(owner)
    assert not counts._counts


def test_rate_of_an_address_is_a_burst_and_an_average() -> None:
    limits, rates = Limits(max_connects_per_second=2.0, max_connect_burst=3), ConnectRates()
    assert [rates.take("a", limits=limits, now=10.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]
    assert rates.take("b", limits=limits, now=10.0) == 0.0
    # A rejected connection costs nothing.
    assert [rates.take("a", limits=limits, now=10.5) for _ in range(2)] == [0.0, 0.5]
    assert [rates.take("a", limits=limits, now=60.0) for _ in range(4)] == [0.0, 0.0, 0.0, 0.5]


def test_table_of_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address_quota, "MAX_TRACKED_ADDRESSES", 3)
    limits, rates = Limits(max_connects_per_second=1.0, max_connect_burst=1), ConnectRates()
    for owner in ("a", "b", "c", "a", "d"):
        rates.take(owner, limits=limits, now=1.0)
    assert len(rates) == 3
    # "b" is forgotten: "a" was used after it.
    assert [rates.take(owner, limits=limits, now=1.0) for owner in ("a", "c", "d")] == [1.0, 1.0, 1.0]
