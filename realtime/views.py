"""The health report and the start page."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.core.handlers.asgi import ASGIRequest
from django.db import Error
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from realtime.auth.identity import Identity
from realtime.auth.policy import may
from realtime.auth.tokens import InvalidToken
from realtime.connection.authentication import UNAUTHENTICATED, identity_without_credentials
from realtime.connection.bearer import TooManyFailures, identity_of_bearer
from realtime.connection.client_address import ClientAddress, client_address_of
from realtime.connection.credentials import bearer_token
from realtime.connection.origin import websocket_host
from realtime.health.report import report_health
from realtime.protocol.channels import CHANNEL_PATTERN


@csrf_exempt  # The view changes nothing. Without this, a POST is answered 403 instead of 405.
@require_safe
async def health(request: HttpRequest) -> JsonResponse:
    """Report the health of this process: 200 if every part works and it accepts connections, else 503.

    Who may not read the metrics gets the status alone.
    """
    # A server on a Unix socket has no address.
    address = request.scope.get("server") if isinstance(request, ASGIRequest) else None
    host, port = address or (request.get_host(), 0)
    report = await report_health(host=host, port=port)
    status = 200 if report["status"] == "healthy" else 503
    if not may(await _identity_of(request), "read", "metrics"):
        report = {"status": report["status"]}
    return JsonResponse(report, status=status)


async def _identity_of(request: HttpRequest) -> Identity:
    """Return whose token a request has. One that is invalid counts as none: a monitor must learn the status."""
    address = client_address_of(request.scope) if isinstance(request, ASGIRequest) else ClientAddress(None)
    token = bearer_token(request.headers.get("Authorization", ""))
    if token is not None:
        try:
            return await identity_of_bearer(token, address, source=f"/health from {address.owner or 'a Unix socket'}")
        except (TooManyFailures, InvalidToken, Error):
            return UNAUTHENTICATED
    is_on_this_machine = address.is_direct_loopback and not settings.MAHAVISHNU_EXPOSED
    if settings.MAHAVISHNU_REQUIRE_AUTH and not is_on_this_machine:
        return UNAUTHENTICATED
    return identity_without_credentials(address)


@csrf_exempt
@require_safe
async def index(request: HttpRequest) -> HttpResponse:
    """Show the live events of one channel, for a person who opened the address in a browser.

    If credentials are required, the login comes first: the page's WebSocket would be refused without it.
    """
    if settings.MAHAVISHNU_REQUIRE_AUTH and not (await request.auser()).is_authenticated:
        return redirect_to_login(request.get_full_path(), login_url=reverse("admin:login"))
    context = {"channel_pattern": CHANNEL_PATTERN, "websocket_host": websocket_host(request)}
    # Unlike `asyncio.to_thread`, this passes the path prefix of the request on to `{% url %}`.
    return await sync_to_async(render, thread_sensitive=False)(request, "realtime/index.html", context)
