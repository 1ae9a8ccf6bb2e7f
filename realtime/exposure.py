"""Whether a server can be reached from another machine, and whether it may serve clients without credentials.

A server that is exposed and open does not start: `refuse_to_be_open` has the sentence. What exposes it is looked at,
not configured alone: the names in the settings here, sockets and daphne's `--proxy-headers` in
`realtime.daphne_server.exposure`. A proxy that nothing announces is found by its requests (`unannounced_proxy`).
"""

from __future__ import annotations

import ipaddress
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, NoReturn

from django.conf import settings
from django.http.request import split_domain_port

CONFIGURATION_ERROR_EXIT_CODE: Final = 78
"""`EX_CONFIG` of sysexits.h: starting again would fail again."""

OPEN_PROBLEM: Final = "open to everyone: clients need no token and no login (MAHAVISHNU_OPEN_TO_EVERYONE)"
"""A problem that `/health` lists for as long as it is so. The server is still healthy."""

SETTINGS_REASON: Final = "MAHAVISHNU_HOST, ALLOWED_HOSTS or MAHAVISHNU_ALLOWED_ORIGINS names more than this machine"

_FORWARDING_HEADERS = (b"x-forwarded-", b"forwarded")
"""What headers begin with that only a proxy sends."""


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


def is_local_only() -> bool:
    """Return whether this process serves clients without credentials, as long as only this machine reaches it."""
    return not (settings.MAHAVISHNU_REQUIRE_AUTH or settings.MAHAVISHNU_OPEN_TO_EVERYONE)


def is_open_to_everyone() -> bool:
    """Return whether an operator has opened this server to clients without credentials."""
    return bool(settings.MAHAVISHNU_OPEN_TO_EVERYONE and not settings.MAHAVISHNU_REQUIRE_AUTH)


def refusal(reason: str) -> str:
    """Return why a server does not start that others can reach and that needs no credentials."""
    return (
        f"Others can reach this server ({reason}), and clients need no token or login: set MAHAVISHNU_REQUIRE_AUTH=1, "
        "or MAHAVISHNU_OPEN_TO_EVERYONE=1 to serve everyone."
    )


def refuse_to_be_open() -> None:
    """Exit if settings name more than this machine and clients need no credentials."""
    if settings.MAHAVISHNU_EXPOSED and is_local_only():
        exit_with(refusal(SETTINGS_REASON))


def note_exposure(on_exposed: Callable[[], None]) -> None:
    """Set `MAHAVISHNU_EXPOSED`, which decides about origins, quotas and TLS."""
    if not settings.MAHAVISHNU_EXPOSED:
        settings.MAHAVISHNU_EXPOSED = True
        on_exposed()


def exit_with(sentence: str) -> NoReturn:
    """Exit because of the configuration."""
    print(sentence, file=sys.stderr, flush=True)
    sys.exit(CONFIGURATION_ERROR_EXIT_CODE)


def is_forwarding_header(name: bytes) -> bool:
    """Return whether only proxies send a header of this name, in lower case."""
    return name.startswith(_FORWARDING_HEADERS)


def unannounced_proxy(scope: Mapping[str, Any]) -> str | None:
    """Return what shows that a request came from elsewhere, to a server that serves this machine only; else None.

    Args:
        scope: The ASGI scope of a page or a WebSocket. For a page with a foreign `Host`, Django answers 400.
    """
    for name, value in scope["headers"]:
        if is_forwarding_header(name):
            return f"header {name.decode('latin-1')}"
        if name == b"host" and scope["type"] == "websocket":
            host = value.decode("latin-1")
            if not is_loopback(split_domain_port(host)[0]):
                return f"host {host!r}"
    server = scope.get("server")
    # The address of a Unix socket has no port.
    if server is not None and server[1] is not None and not is_loopback(server[0]):
        return f"address {server[0]} of this server"
    return None
