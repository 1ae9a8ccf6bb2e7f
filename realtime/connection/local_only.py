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
from realtime.connection.refusals import Refusal, Send, refuse
from realtime.exposure import is_local_only, unannounced_proxy

logger = logging.getLogger(__name__)
_refused = LogThrottle(logger)

Receive = Callable[[], Awaitable[Any]]
Application = Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]

_REFUSAL: Final = Refusal(
    HTTPStatus.MISDIRECTED_REQUEST,
    "This server needs no token or login, so it serves only its own machine. Behind a proxy, set "
    "MAHAVISHNU_REQUIRE_AUTH=1, or MAHAVISHNU_OPEN_TO_EVERYONE=1 to serve everyone.\n",
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
        if scope["type"] == "websocket":
            await receive()  # websocket.connect
        await refuse(scope, send, _REFUSAL)

    return serve_this_machine
