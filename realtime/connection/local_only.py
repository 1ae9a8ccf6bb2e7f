"""Refuse requests from elsewhere, while a server needs no credentials because only this machine reaches it.

A proxy in front of such a server would open it to everyone, without a line in its configuration. Its requests show it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from orchestration.log_throttle import LogThrottle
from realtime.connection.client_address import peer_address
from realtime.exposure import is_local_only, unannounced_proxy

logger = logging.getLogger(__name__)
_refused = LogThrottle(logger)

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]
Application = Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]

_TEXT: Final = (
    b"This server needs no token or login, so it serves only its own machine. Behind a proxy, set "
    b"MAHAVISHNU_REQUIRE_AUTH=1, or MAHAVISHNU_OPEN_TO_EVERYONE=1 to serve everyone.\n"
)
_HEADERS: Final = (
    (b"content-type", b"text/plain; charset=utf-8"),
    (b"content-length", str(len(_TEXT)).encode()),
    (b"x-content-type-options", b"nosniff"),
)


def local_only(application: Application) -> Application:
    """Return an ASGI application that answers 421 to what comes from elsewhere (RFC 9110, section 15.5.20).

    A server that needs credentials, or is open to everyone by its configuration, is returned as it is.
    """
    if not is_local_only():
        return application

    async def serve_this_machine(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        sign = unannounced_proxy(scope) if scope["type"] in ("http", "websocket") else None
        if sign is None:
            await application(scope, receive, send)
            return
        _refused.log(
            "Refused a request from %s (%s): this server is open, and serves only this machine; set "
            "MAHAVISHNU_REQUIRE_AUTH=1, or MAHAVISHNU_OPEN_TO_EVERYONE=1",
            peer_address(scope.get("client")),
            sign,
        )
        await _refuse(scope, receive, send)

    return serve_this_machine


async def _refuse(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    kind = "http" if scope["type"] == "http" else "websocket.http"
    if kind == "websocket.http":
        await receive()  # websocket.connect
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close"})
            return
    start = {"type": f"{kind}.response.start", "status": HTTPStatus.MISDIRECTED_REQUEST.value, "headers": _HEADERS}
    await send(start)
    body = b"" if scope.get("method") == "HEAD" else _TEXT
    await send({"type": f"{kind}.response.body", "body": body})
