"""What daphne omits from a scope: the scheme of a WebSocket, without which no origin can be compared, and extensions.

An application that streams its response learns from the extension of an HTTP request whether the client keeps up.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any

from twisted.internet.interfaces import ISSLTransport

from realtime.connection.http_output import EXTENSION
from realtime.daphne_server.http_output import DaphneOutput

_SECURE_SCHEMES = ("https", "wss")

CreateApplication = Callable[[Any, Any, dict[str, Any]], Any]


def create_application_with_scheme(create_application: CreateApplication) -> CreateApplication:
    """Return daphne's `Server.create_application`, which now completes the scope."""

    @wraps(create_application)
    def create(server: Any, protocol: Any, scope: dict[str, Any]) -> Any:
        if scope["type"] == "websocket":
            scope["scheme"] = websocket_scheme(protocol)
            # `MahavishnuProtocol` answers a handshake with any status.
            scope["extensions"] = {"websocket.http.response": {}}
        else:
            scope["extensions"] = {EXTENSION: partial(DaphneOutput, protocol)}
        return create_application(server, protocol, scope)

    return create


def websocket_scheme(protocol: Any) -> str:
    """Return `wss` if the client uses TLS, to this server or to a proxy that daphne trusts (`--proxy-headers`)."""
    # Daphne sets it from the proxy's header, and to None if the proxy sent none.
    forwarded: str | None = getattr(protocol, "client_scheme", None)
    if forwarded is not None:
        return "wss" if forwarded.lower() in _SECURE_SCHEMES else "ws"
    return "wss" if ISSLTransport.providedBy(protocol.transport) else "ws"
