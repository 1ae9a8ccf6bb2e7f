"""Headers that forbid pages what they do not need. `content_security_policy` and Django's middleware set the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from asgiref.sync import iscoroutinefunction
from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from mahavishnu_site.csp_settings import POLICY

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

_OTHER_HEADERS: Final = {"Permissions-Policy": PERMISSIONS_POLICY, "X-Content-Type-Options": "nosniff"}

HEADERS: Final = {"Content-Security-Policy": POLICY, **_OTHER_HEADERS}
"""All headers, for answers that no middleware sees."""

GetResponse = Callable[[HttpRequest], Any]


def add_security_headers(response: HttpResponseBase) -> HttpResponseBase:
    """Add the headers to a response that has none of them, and return it."""
    # Django's debug pages have inline styles and scripts.
    if not (settings.DEBUG and response.status_code >= 400):
        for name, value in _OTHER_HEADERS.items():
            response.headers.setdefault(name, value)
    return response


@sync_and_async_middleware
def security_headers_middleware(get_response: GetResponse) -> GetResponse:
    """Add the headers to every page. Listed first, so that the pages of other middleware have them too."""
    if iscoroutinefunction(get_response):

        async def add_async(request: HttpRequest) -> HttpResponseBase:
            return add_security_headers(await get_response(request))

        return add_async

    def add(request: HttpRequest) -> HttpResponseBase:
        return add_security_headers(get_response(request))

    return add
