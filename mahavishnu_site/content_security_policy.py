"""Middleware that sets the Content-Security-Policy of pages, as django-csp builds it from `csp_settings`."""

from __future__ import annotations

from typing import Any, Final

from csp.constants import HEADER
from csp.middleware import CSPMiddleware, PolicyParts
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from mahavishnu_site.csp_settings import in_order
from realtime.connection.origin import websocket_host

_WITHOUT_TRUSTED_TYPES: Final = {"require-trusted-types-for": None, "trusted-types": None}


class ContentSecurityPolicyMiddleware(CSPMiddleware):
    """Adds what depends on the request. A view may change its policy with the decorators of `csp.decorators`."""

    # The base class takes two threads for each request under ASGI.
    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        self.process_request(request)
        response: HttpResponseBase = await self.get_response(request)  # type: ignore[misc]
        return self.process_response(request, response)

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        # Django's debug pages have inline styles and scripts.
        if settings.DEBUG and response.status_code >= 400:
            return response
        is_set = HEADER in response
        response = super().process_response(request, response)
        if not is_set and HEADER in response:
            response[HEADER] = in_order(response[HEADER])
        return response

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        if not report_only:
            parts.update = {**_websocket_sources(request), **(parts.update or {})}
            if _is_admin(request):
                parts.replace = {**_WITHOUT_TRUSTED_TYPES, **(parts.replace or {})}
        return parts


def _websocket_sources(request: HttpRequest) -> dict[str, Any]:
    """Return what a page on `MAHAVISHNU_PAGES_PORT` needs to connect to the WebSocket, which has another port."""
    try:
        host = websocket_host(request)
    except DisallowedHost:
        return {}
    if not host:
        return {}
    # A host in a policy cannot be an IPv6 address.
    return {"connect-src": ["ws:", "wss:"] if host.startswith("[") else [f"ws://{host}", f"wss://{host}"]}


def _is_admin(request: HttpRequest) -> bool:
    """Return whether this is a page of Django's admin: jQuery, which it contains, builds HTML from texts."""
    return request.resolver_match is not None and "admin" in request.resolver_match.app_names
