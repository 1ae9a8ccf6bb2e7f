"""Check the path and the `Origin` of a handshake: pages of other sites must not connect through a visitor's browser.

A browser always sends an `Origin`. It is compared by scheme, host and port. Scripts send none and are allowed.
(Channels' own validator rejects them with 403.)
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.http.request import split_domain_port, validate_host

from realtime.connection.client_address import peer_address
from realtime.exposure import is_loopback
from realtime.web_origin import DEFAULT_PORTS, InvalidOrigin, Origin, origin_of_server, parse_origin

logger = logging.getLogger(__name__)

PATHS = ("/", "/ws", "/ws/")
"""The paths that serve the WebSocket."""


def is_handshake_allowed(scope: Mapping[str, Any]) -> bool:
    """Return whether the path and the origin of a handshake are allowed; log the reason if not."""
    if scope["path"] not in PATHS:
        logger.warning(
            "Rejected a WebSocket handshake from %s: path %r is not one of %s",
            peer_address(scope.get("client")),
            scope["path"],
            PATHS,
        )
        return False
    origin = _header(scope["headers"], b"origin")
    if origin is None:
        return True
    own = _own_origin(scope)
    allowed = is_allowed_origin(
        origin,
        own=own,
        pages_port=settings.MAHAVISHNU_PAGES_PORT,
        allowed=tuple(settings.MAHAVISHNU_ALLOWED_ORIGINS),
        own_hosts=settings.ALLOWED_HOSTS,
        allow_loopback=not settings.MAHAVISHNU_EXPOSED,
    )
    if not allowed:
        logger.warning(
            "Rejected a WebSocket handshake from %s: origin %r is neither this server's own (%s, and in ALLOWED_HOSTS)"
            "%s nor in MAHAVISHNU_ALLOWED_ORIGINS",
            peer_address(scope.get("client")),
            origin,
            own,
            "" if settings.MAHAVISHNU_EXPOSED else ", a loopback host,",
        )
        return False
    return True


def is_own_page(scope: Mapping[str, Any]) -> bool:
    """Return whether a handshake comes from a page of this server, or of an origin in MAHAVISHNU_ALLOWED_ORIGINS.

    Only then does a login count. Other pages of this machine may connect to an open server, but not in the name of its
    users. What is no page sends no origin.
    """
    origin = _header(scope["headers"], b"origin")
    return origin is not None and is_allowed_origin(
        origin,
        own=_own_origin(scope),
        pages_port=settings.MAHAVISHNU_PAGES_PORT,
        allowed=tuple(settings.MAHAVISHNU_ALLOWED_ORIGINS),
        own_hosts=settings.ALLOWED_HOSTS,
        allow_loopback=False,
    )


def _own_origin(scope: Mapping[str, Any]) -> Origin | None:
    """Return the origin of pages of this server, by the scheme and the `Host` of the handshake."""
    scheme = "https" if scope.get("scheme") in ("wss", "https") else "http"
    return origin_of_server(scheme, _header(scope["headers"], b"host") or "")


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """Return the first header called `name` (lower case), or None."""
    return next((value.decode("latin-1") for key, value in headers if key == name), None)


def is_allowed_origin(
    text: str,
    *,
    own: Origin | None,
    pages_port: int,
    allowed: tuple[str, ...],
    own_hosts: Collection[str],
    allow_loopback: bool,
) -> bool:
    """Return whether a page may connect.

    Args:
        text: The `Origin` header.
        own: The origin of the server's own pages.
        pages_port: The port of pages that a separate process serves; 0 for none.
        allowed: Further origins, as `realtime.web_origin.parse_origin` reads them, wildcards included.
        own_hosts: The host names of this server, in the syntax of Django's `ALLOWED_HOSTS`. Comparing with `own` is not
            enough: another site's name can resolve to this machine (DNS rebinding).
        allow_loopback: Whether every page of this machine may connect, on any port.
    """
    if not text.isascii():
        return False
    try:
        origin = parse_origin(text)
    except InvalidOrigin:
        return False
    if own is not None and validate_host(own.host, own_hosts) and origin in (own, replace(own, port=pages_port)):
        return True
    if allow_loopback and origin.scheme in DEFAULT_PORTS and is_loopback(origin.host):
        return True
    return any(entry.covers(origin) for entry in _parse_allowed(allowed))


@lru_cache(maxsize=8)
def _parse_allowed(allowed: tuple[str, ...]) -> tuple[Origin, ...]:
    return tuple(parse_origin(text, allow_wildcard=True) for text in allowed)


def websocket_host(request: HttpRequest) -> str:
    """Return the host and port of the WebSocket if its port is not that of the page; an empty text otherwise.

    The page may be served on `MAHAVISHNU_PAGES_PORT`. Behind a proxy, both have the port of the proxy.

    Raises:
        DisallowedHost: if the request has a host that is not in `ALLOWED_HOSTS`.
    """
    name, page_port = split_domain_port(request.get_host())
    return f"{name}:{settings.MAHAVISHNU_PORT}" if page_port == str(settings.MAHAVISHNU_PAGES_PORT) else ""
