"""Whether a server can be reached from another machine: which host names are loopback, and what settings name."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable


def is_loopback(host: str) -> bool:
    """Return whether a host name or address always means this machine.

    These are `localhost`, names below it (RFC 6761 section 6.3), 127.0.0.0/8 and ::1. An IPv4 address may be mapped to
    IPv6, as a socket for both reports it. Everything else is False, also what is no host at all.

    Args:
        host: A name in any case or an address, without a port. IPv6 may have its brackets.
    """
    name = host.lower()
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return _is_localhost(name.removesuffix("."))
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped.is_loopback
        return address.scope_id is None and address.is_loopback
    return address.is_loopback


def _is_localhost(name: str) -> bool:
    *labels, top = name.split(".")
    return top == "localhost" and all(
        label.isascii() and label.replace("-", "").replace("_", "").isalnum() for label in labels
    )


def is_exposed(hosts: Iterable[str]) -> bool:
    """Return whether any of these means more than this machine.

    Args:
        hosts: Addresses to listen on, and the hosts of a server and of allowed origins. One that begins with `.` or
            `*.` stands for all names below it; `*` stands for all.
    """
    return not all(is_loopback(host.removeprefix("*").removeprefix(".")) for host in hosts)
