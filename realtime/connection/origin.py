"""Check the path and the `Origin` of a handshake: pages of other sites must not connect through a visitor's browser.

A browser always sends an `Origin`. Scripts send none and are allowed. (Channels' own validator rejects them with 403.)
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from realtime.exposure import is_loopback

logger = logging.getLogger(__name__)

PATHS = ("/", "/ws", "/ws/")
"""The paths that serve the WebSocket."""


def peer_address(client: Sequence[Any] | None) -> str:
    """Return the address of a client for log lines, such as `127.0.0.1:5000`.

    Args:
        client: The host and the port, as in an ASGI scope. A Unix socket has none.
    """
    if not client:
        return "unknown"
    host, port = client
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_handshake_allowed(scope: Mapping[str, Any]) -> bool:
    """Return whether the path and the origin of a handshake are allowed; log the reason if not."""
    peer = peer_address(scope.get("client"))
    if scope["path"] not in PATHS:
        logger.warning(
            "Rejected a WebSocket handshake from %s: path %r is not one of %s",
            peer,
            scope["path"],
            PATHS,
        )
        return False
    origin, host = _header(scope["headers"], b"origin"), _header(scope["headers"], b"host")
    allowed, own_hosts = settings.MAHAVISHNU_ALLOWED_ORIGINS, settings.ALLOWED_HOSTS
    if not is_allowed_origin(origin, host=host, allowed=allowed, own_hosts=own_hosts):
        logger.warning(
            "Rejected a WebSocket handshake from %s: origin %r is neither this host (ALLOWED_HOSTS), "
            "a loopback host, nor in MAHAVISHNU_ALLOWED_ORIGINS",
            peer,
            origin,
        )
        return False
    return True


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """Return the first header called `name` (lower case), or None."""
    return next((value.decode("latin-1") for key, value in headers if key == name), None)


def is_allowed_origin(
    origin: str | None, *, host: str | None, allowed: Collection[str], own_hosts: Collection[str]
) -> bool:
    """Return whether a page from `origin` may connect.

    Args:
        origin: The `Origin` header; None if there was none.
        host: The `Host` header. A page of the same host may connect.
        allowed: Further origins, each `scheme://host[:port]` in lower case.
        own_hosts: The host names of this server, in the syntax of Django's `ALLOWED_HOSTS`. Comparing `origin` with
            `host` is not enough: another site's name can resolve to this machine (DNS rebinding).
    """
    if origin is None or origin.lower() in allowed:
        return True
    try:
        hostname = urlsplit(origin).hostname
    except ValueError:
        return False
    if hostname is None:
        return False
    request_host, _ = split_domain_port(host or "")
    is_own = hostname == request_host.strip("[]") and validate_host(request_host, own_hosts)
    return is_own or is_loopback(hostname)
