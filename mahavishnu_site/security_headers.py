"""Headers that forbid pages what they do not need. Django's own middleware sets the other security headers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from realtime.connection.origin import websocket_host

# In CSP Level 3, `'self'` includes WebSockets of the same host and port. Pages have no inline scripts or styles.
CONNECT_SELF: Final = "connect-src 'self'"
CONTENT_SECURITY_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    f"{CONNECT_SELF}; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)

# Chromium logs an error for a feature that it does not know, so rare ones are not listed.
PERMISSIONS_POLICY: Final = ", ".join(
    f"{feature}=()"
    for feature in (
        "accelerometer",
        "camera",
        "display-capture",
        "geolocation",
        "gyroscope",
        "hid",
        "magnetometer",
        "microphone",
        "midi",
        "payment",
        "serial",
        "usb",
    )
)

HEADERS: Final = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Permissions-Policy": PERMISSIONS_POLICY,
    "X-Content-Type-Options": "nosniff",
}

GetResponse = Callable[[HttpRequest], Any]


def add_security_headers(response: HttpResponseBase) -> HttpResponseBase:
    """Add the headers to a response that has none of them, and return it."""
    # Django's debug pages have inline styles and scripts.
    if not (settings.DEBUG and response.status_code >= 400):
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
    return response


def allow_websocket(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Allow a page on `MAHAVISHNU_PAGES_PORT` to connect to the WebSocket, which has another port, and return it."""
    try:
        host = websocket_host(request)
    except DisallowedHost:
        return response
    if host:
        # A host in a policy cannot be an IPv6 address.
        sources = "ws: wss:" if host.startswith("[") else f"ws://{host} wss://{host}"
        policy = CONTENT_SECURITY_POLICY.replace(CONNECT_SELF, f"{CONNECT_SELF} {sources}")
        response.headers.setdefault("Content-Security-Policy", policy)
    return response


@sync_and_async_middleware
def security_headers_middleware(get_response: GetResponse) -> GetResponse:
    """Add the headers to every page. Listed first, so that the pages of other middleware have them too."""
    if iscoroutinefunction(get_response):

        async def add_async(request: HttpRequest) -> HttpResponseBase:
            return add_security_headers(allow_websocket(request, await get_response(request)))

        return add_async

    def add(request: HttpRequest) -> HttpResponseBase:
        return add_security_headers(allow_websocket(request, get_response(request)))

    return add
