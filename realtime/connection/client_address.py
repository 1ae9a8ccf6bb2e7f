"""The address of a client: that of its connection or, behind a trusted proxy, the one in `X-Forwarded-For`.

Anyone can send `X-Forwarded-For`, and every proxy adds the address it was called from on the right. So the header
counts only if the connection comes from a trusted proxy, and is then read from right to left: the first address that is
not a trusted proxy is the client's. Everything to the left of it may be forged.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, Final

from django.conf import settings

from realtime.limits import Network

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_IPV6_CLIENT_BITS = 64
"""The part of an IPv6 address that identifies a network (RFC 4291 section 2.5.4): its owner has all addresses in it."""

_MAX_CACHED_PEERS: Final = 1024
"""Peers whose address is parsed once, 0.5 MiB. Every connection asks for its own several times."""

_MAX_PEER_CHARACTERS: Final = 64
"""Characters of a peer's address that are read and kept. The longest IPv6 address with a zone has 55; another ASGI
server may take a longer text from a header."""


@dataclass(frozen=True)
class ClientAddress:
    """Where a client is.

    Attributes:
        address: Its address; None for a client of a Unix socket.
        is_forwarded: Whether a trusted proxy has forwarded its request.
    """

    address: Address | None
    is_forwarded: bool = False

    @cached_property
    def owner(self) -> str | None:
        """What counts as one client: an IPv4 address, or an IPv6 network of 64 bits. None on a Unix socket."""
        if isinstance(self.address, ipaddress.IPv6Address):
            return str(ipaddress.IPv6Network((self.address, _IPV6_CLIENT_BITS), strict=False))
        return None if self.address is None else str(self.address)

    @cached_property
    def is_direct_loopback(self) -> bool:
        """Whether it connects from a loopback address, and not through a proxy."""
        return self.address is not None and self.address.is_loopback and not self.is_forwarded


def parse_address(text: str) -> Address | None:
    """Return the address in one hop of `X-Forwarded-For`, without port, brackets and zone; None if it has none.

    An IPv4 address mapped to IPv6 (`::ffff:192.0.2.1`) is an IPv4 address.
    """
    host = text.strip()
    if host.startswith("["):
        host = host[1:].partition("]")[0]
    elif host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _client_of_peer(peer: str | None) -> ClientAddress:
    return _parse_peer(peer if peer is None else peer[:_MAX_PEER_CHARACTERS])


@lru_cache(maxsize=_MAX_CACHED_PEERS)
def _parse_peer(peer: str | None) -> ClientAddress:
    return ClientAddress(None if peer is None else parse_address(peer))


def is_trusted_proxy(peer: str | None) -> bool:
    """Return whether the forwarding headers of a peer count. Those of a Unix socket (None) do: it has permissions."""
    if peer is None:
        return True
    address = _client_of_peer(peer).address
    return address is not None and _is_in(address, settings.MAHAVISHNU_TRUSTED_PROXIES)


def client_address(peer: str | None, forwarded_for: Iterable[str]) -> ClientAddress:
    """Return the address of a client.

    Args:
        peer: The address at the other end of the connection; None for a Unix socket.
        forwarded_for: The values of its `X-Forwarded-For` headers.
    """
    client = _client_of_peer(peer)
    hops = [hop for value in forwarded_for for hop in value.split(",")]
    if not hops or not is_trusted_proxy(peer):
        return client
    address = client.address
    for hop in reversed(hops):
        found = parse_address(hop)
        if found is None:
            break  # The proxy that wrote this did not know the address. Everything on the left may be forged.
        address = found
        if not _is_in(found, settings.MAHAVISHNU_TRUSTED_PROXIES):
            break
    return ClientAddress(address, is_forwarded=True)


def client_address_of(scope: Mapping[str, Any]) -> ClientAddress:
    """Return the address of the client of an ASGI scope."""
    client = scope.get("client")
    forwarded_for = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-forwarded-for"]
    return client_address(client[0] if client else None, forwarded_for)


def _is_in(address: Address, networks: Collection[Network]) -> bool:
    return any(address in network for network in networks)


def peer_address(client: Sequence[Any] | None) -> str:
    """Return the address of a client for log lines, such as `127.0.0.1:5000`.

    Args:
        client: The host and the port, as in an ASGI scope. A Unix socket has none.
    """
    if not client:
        return "unknown"
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
