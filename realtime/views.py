"""The health report, and the answer to requests for the WebSocket that are none."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any, Final

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import Error
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from realtime.auth.identity import Identity
from realtime.auth.policy import may
from realtime.auth.tokens import InvalidToken
from realtime.connection.authentication import UNAUTHENTICATED, identity_without_credentials
from realtime.connection.bearer import TooManyFailures, identity_of_bearer
from realtime.connection.client_address import ClientAddress, client_address_of
from realtime.connection.credentials import bearer_token
from realtime.connection.page_session import identity_of_page
from realtime.health.report import report_health

LOGIN_TIMEOUT_SECONDS: Final = 1.0


@csrf_exempt  # The view changes nothing. Without this, a POST is answered 403 instead of 405.
@require_safe
async def health(request: HttpRequest) -> JsonResponse:
    """Report the health of this process: 200 if every part works and it accepts connections, else 503."""
    report, status = await report_for(request)
    return JsonResponse(report, status=status)


async def report_for(request: HttpRequest) -> tuple[dict[str, Any], int]:
    """Return the report and the status of its response. Who may not read the metrics gets the status alone."""
    # A server on a Unix socket has no address.
    address = request.scope.get("server") if isinstance(request, ASGIRequest) else None
    host, port = address or (request.get_host(), 0)
    report = await report_health(host=host, port=port)
    status = 200 if report["status"] == "healthy" else 503
    if not may(await _identity_of(request), "read", "metrics"):
        report = {"status": report["status"]}
    return report, status


@csrf_exempt
def upgrade_required(request: HttpRequest) -> HttpResponse:
    """Answer a request for the WebSocket that is none (RFC 9110, section 15.5.22)."""
    return HttpResponse(
        "This is the address of a WebSocket. Open it with a WebSocket client, such as `new WebSocket(…)` in a page.\n",
        status=HTTPStatus.UPGRADE_REQUIRED,
        content_type="text/plain; charset=utf-8",
        headers={"Upgrade": "websocket"},
    )


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
        return await _identity_of_login(request) or UNAUTHENTICATED
    return identity_without_credentials(address)


async def _identity_of_login(request: HttpRequest) -> Identity | None:
    """Return whose login a request has; None if the database does not say so at once: the report must not wait."""
    try:
        async with asyncio.timeout(LOGIN_TIMEOUT_SECONDS):
            return await identity_of_page(request)
    except (TimeoutError, Error):
        return None
