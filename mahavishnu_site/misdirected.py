"""What a server process answers to requests that another process serves (`MAHAVISHNU_SERVES`)."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from orchestration.log_throttle import LogThrottle
from realtime.connection.client_address import peer_address

_rejected = LogThrottle(logging.getLogger(__name__))

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]


@csrf_exempt
def misdirected_page(request: HttpRequest) -> HttpResponse:
    """Answer a request for a page in a process that serves WebSockets only (RFC 9110, section 15.5.20)."""
    return HttpResponse(
        "This process serves WebSockets and /health. Pages are served by the process with MAHAVISHNU_SERVES=pages.\n",
        status=HTTPStatus.MISDIRECTED_REQUEST,
        content_type="text/plain; charset=utf-8",
    )


async def reject_websocket(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
    """Reject a handshake in a process that serves pages only; an ASGI application."""
    await receive()  # websocket.connect
    _rejected.log(
        "Rejected a WebSocket handshake from %s: this process serves pages only (MAHAVISHNU_SERVES=pages)",
        peer_address(scope.get("client")),
    )
    await send({"type": "websocket.close"})
