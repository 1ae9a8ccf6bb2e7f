"""The health report."""

from __future__ import annotations

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.db import Error
from django.http import HttpRequest, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from realtime.auth.identity import Identity
from realtime.auth.policy import may
from realtime.auth.tokens import InvalidToken
from realtime.connection.authentication import UNAUTHENTICATED, identity_without_credentials
from realtime.connection.bearer import TooManyFailures, identity_of_bearer
from realtime.connection.client_address import ClientAddress, client_address_of
from realtime.connection.credentials import bearer_token
from realtime.health.report import report_health


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
