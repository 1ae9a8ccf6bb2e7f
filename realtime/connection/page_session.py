"""The login of a person as the credential of an HTTP request that one of the server's own pages sends.

Browsers add the cookie of the login to requests of every page. So it counts only if the browser says that the request
comes from this server, and a change needs the CSRF token, which only a page of this server can read.
"""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware

from realtime.auth.identity import Identity
from realtime.auth.sessions import identity_of_session
from realtime.connection.origin import is_allowed_origin
from realtime.database import in_database_thread
from realtime.web_origin import origin_of_server

SAFE_METHODS: Final = ("GET", "HEAD", "OPTIONS")

# Fetch Metadata: what a page of this origin sends, and what a person opens by its address. Old browsers send none.
_OWN_SITES: Final = (None, "same-origin", "none")


class CsrfFailure(Exception):
    """Raised for a change that no page of this server is known to have sent.

    Attributes:
        user_id: Whose login it has.
    """

    def __init__(self, reason: str, *, user_id: str) -> None:
        super().__init__(reason)
        self.user_id = user_id


async def identity_of_page(request: HttpRequest) -> Identity | None:
    """Return whose login a request has; None if it has none that counts, or it has ended.

    Raises:
        CsrfFailure: if the request is a change, and lacks the origin or the CSRF token of this server's pages.
        django.db.Error: if it is not known whether the login has ended.
    """
    session_key = request.COOKIES.get(settings.SESSION_COOKIE_NAME)
    if not session_key or not _is_own_page(request):
        return None
    identity = await in_database_thread(identity_of_session, session_key)
    if identity is not None and (reason := _csrf_problem(request)):
        raise CsrfFailure(reason, user_id=identity.user_id)
    return identity


def has_own_origin(request: HttpRequest, origin: str) -> bool:
    """Return whether an `Origin` is that of this server.

    Raises:
        DisallowedHost: if the request has a host that is not in `ALLOWED_HOSTS`.
    """
    own = origin_of_server(request.scheme or "http", request.get_host())
    return is_allowed_origin(
        origin, own=own, pages_port=0, allowed=(), own_hosts=settings.ALLOWED_HOSTS, allow_loopback=False
    )


def _is_own_page(request: HttpRequest) -> bool:
    if request.headers.get("Sec-Fetch-Site") not in _OWN_SITES:
        return False
    origin = request.headers.get("Origin")
    try:
        return origin is None or has_own_origin(request, origin)
    except DisallowedHost:
        return False


def _csrf_problem(request: HttpRequest) -> str | None:
    """Return what a change lacks to be known as one of this server's pages; None if nothing."""
    if request.method in SAFE_METHODS:
        return None
    # Every browser sends it with a change.
    if request.headers.get("Origin") is None:
        return "A change with a login needs the header `Origin`, which browsers send; programs send a token"
    # The middleware of the site has let the request pass: views of the API are exempt.
    check = CsrfViewMiddleware(lambda _: HttpResponse())
    check.process_request(request)
    if check.process_view(request, _checked, (), {}) is None:
        return None
    return "The header `X-CSRFToken` lacks the token of the page, or has an old one; reload the page"


def _checked(request: HttpRequest) -> HttpResponse:
    """Stand for a view that is not exempt from the check."""
    raise NotImplementedError
