"""Who may open a WebSocket, and where: the check of `Origin` keeps other sites' pages away from a visitor's server.

Scripts send no `Origin` and are allowed. (Channels' own validator answers them 403.) A browser always sends one.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host

logger = logging.getLogger(__name__)

PATHS = ("/", "/ws", "/ws/")
"""Where the WebSocket is served."""


def peer_address(scope: Mapping[str, Any]) -> Any:
    """Who is at the other end, for a line in the log."""
    return scope.get("client") or "unknown"


def is_handshake_allowed(scope: Mapping[str, Any]) -> bool:
    """Whether a WebSocket may be opened as asked. If not, the log says why."""
    if scope["path"] not in PATHS:
        logger.warning(
            "Refused a WebSocket on %r from %s: expected one of %s", scope["path"], peer_address(scope), PATHS
        )
        return False
    origin, host = _header(scope["headers"], b"origin"), _header(scope["headers"], b"host")
    allowed, own_hosts = settings.MAHAVISHNU_ALLOWED_ORIGINS, settings.ALLOWED_HOSTS
    if not is_allowed_origin(origin, host=host, allowed=allowed, own_hosts=own_hosts):
        logger.warning(
            "Refused a WebSocket from %s: its origin %r is not in MAHAVISHNU_ALLOWED_ORIGINS",
            peer_address(scope),
            origin,
        )
        return False
    return True


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """The value of the first header called `name` (lower case), or None."""
    return next((value.decode("latin-1") for key, value in headers if key == name), None)


def is_allowed_origin(
    origin: str | None, *, host: str | None, allowed: Collection[str], own_hosts: Collection[str]
) -> bool:
    """Whether a page from `origin` may connect.

    Args:
        origin: The `Origin` header; None if there was none.
        host: The `Host` header, which the page's own host may equal.
        allowed: Further origins, each `scheme://host[:port]` in lower case.
        own_hosts: The names this server goes by, in the syntax of Django's `ALLOWED_HOSTS`. Another site's page may
            well have the same host as its request: its name need only resolve to this machine (DNS rebinding).
    """
    if origin is None or origin.lower() in allowed:
        return True
    try:
        hostname = urlsplit(origin).hostname
    except ValueError:
        return False
    if hostname is None:
        return False
    own_host, _ = split_domain_port(host or "")
    is_own = hostname == own_host.strip("[]") and validate_host(own_host, own_hosts)
    return is_own or is_loopback(hostname)


def is_loopback(hostname: str) -> bool:
    """Whether a host name or address can only be this machine."""
    if hostname == "localhost" or hostname.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return False
