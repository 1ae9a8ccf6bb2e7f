"""The address of a client, from the address of its connection and the `X-Forwarded-For` that proxies send."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest

from realtime.connection.client_address import client_address, client_address_of, is_trusted_proxy, parse_address

TRUSTED = ["127.0.0.0/8", "::1", "10.0.0.0/24", "fd00::/64"]

HOPS = {
    "192.0.2.1": "192.0.2.1",
    " 192.0.2.1 ": "192.0.2.1",
    "192.0.2.1:5000": "192.0.2.1",
    "2001:db8::1": "2001:db8::1",
    "[2001:db8::1]": "2001:db8::1",
    "[2001:DB8::1]:5000": "2001:db8::1",
    "fe80::1%eth0": "fe80::1",
    "::ffff:192.0.2.1": "192.0.2.1",
    "[::ffff:192.0.2.1]:5000": "192.0.2.1",
}

NO_HOPS = ["", "unknown", "_hidden", "unix:", "localhost", "192.0.2", "192.0.2.1.1", "1::2::3", "[]", "192.0.2.1/24"]

FORWARDED = {
    "no header": ("127.0.0.1", [], "127.0.0.1", False),
    "a client that is no proxy": ("192.0.2.1", ["203.0.113.9"], "192.0.2.1", False),
    "a proxy": ("127.0.0.1", ["192.0.2.1"], "192.0.2.1", True),
    "a proxy on a Unix socket": (None, ["192.0.2.1"], "192.0.2.1", True),
    "a client on a Unix socket": (None, [], None, False),
    "a forged hop on the left": ("127.0.0.1", ["203.0.113.9, 192.0.2.1"], "192.0.2.1", True),
    "a forged header before that of the proxy": ("127.0.0.1", ["203.0.113.9", "192.0.2.1"], "192.0.2.1", True),
    "two proxies": ("127.0.0.1", ["203.0.113.9, 192.0.2.1, 10.0.0.7"], "192.0.2.1", True),
    "a client between the proxies": ("::1", ["10.0.0.7"], "10.0.0.7", True),
    "an IPv6 proxy": ("fd00::1", ["2001:db8::1"], "2001:db8::1", True),
    "a mapped proxy": ("::ffff:10.0.0.1", ["192.0.2.1"], "192.0.2.1", True),
    "a proxy that does not know the address": ("10.0.0.1", ["192.0.2.1, unknown"], "10.0.0.1", True),
    "the same behind another proxy": ("10.0.0.1", ["192.0.2.1, unknown, 10.0.0.7"], "10.0.0.7", True),
    "an empty header": ("10.0.0.1", [""], "10.0.0.1", True),
}

OWNERS = {
    "192.0.2.1": "192.0.2.1",
    "::ffff:192.0.2.1": "192.0.2.1",
    "2001:db8:1:2:3:4:5:6": "2001:db8:1:2::/64",
    "2001:db8:1:2::": "2001:db8:1:2::/64",
    "2001:db8:1:3::": "2001:db8:1:3::/64",
}


@pytest.fixture(autouse=True)
def _trusted_proxies(settings: Any) -> None:
    settings.MAHAVISHNU_TRUSTED_PROXIES = tuple(ip_network(network) for network in TRUSTED)


@pytest.mark.parametrize(("hop", "address"), HOPS.items())
def test_hop_is_read_without_port_brackets_and_zone(hop: str, address: str) -> None:
    assert str(parse_address(hop)) == address


@pytest.mark.parametrize("hop", NO_HOPS)
def test_hop_without_an_address(hop: str) -> None:
    assert parse_address(hop) is None


@pytest.mark.parametrize(("peer", "headers", "address", "is_forwarded"), FORWARDED.values(), ids=list(FORWARDED))
def test_client_is_the_last_address_that_no_trusted_proxy_has(
    peer: str | None, headers: list[str], address: str | None, is_forwarded: bool
) -> None:
    found = client_address(peer, headers)
    assert (found.address and str(found.address), found.is_forwarded) == (address, is_forwarded)
    scope = {
        "client": None if peer is None else [peer, 5000],
        "headers": [(b"host", b"x"), *((b"x-forwarded-for", value.encode()) for value in headers)],
    }
    assert client_address_of(scope) == found


@pytest.mark.parametrize(("address", "owner"), OWNERS.items())
def test_owner_of_an_address(address: str, owner: str) -> None:
    assert client_address(address, []).owner == owner


def test_peer_without_an_address_is_no_proxy() -> None:
    assert not is_trusted_proxy("testclient")
    assert client_address("testclient", ["192.0.2.1"]).address is None


def test_trusted_proxies_are_not_remembered_with_an_address(settings: Any) -> None:
    assert is_trusted_proxy("10.0.0.1")
    settings.MAHAVISHNU_TRUSTED_PROXIES = ()
    assert not is_trusted_proxy("10.0.0.1")
    assert not client_address("10.0.0.1", ["192.0.2.1"]).is_forwarded


def test_only_a_direct_connection_from_a_loopback_address_is_one() -> None:
    assert client_address("127.0.0.1", []).is_direct_loopback
    assert not client_address("10.0.0.1", ["127.0.0.1"]).is_direct_loopback
    assert not client_address("192.0.2.1", []).is_direct_loopback
    assert not client_address(None, []).is_direct_loopback


def test_long_text_in_place_of_an_address_is_cut() -> None:
    assert client_address("fe80::1%" + "z" * 100_000, []) == client_address("fe80::1%" + "z" * 200_000, [])
    assert client_address("1" * 100_000, []).address is None
