"""What the scripts of a page need to know before they connect: addresses, the user, and what the user may do."""

from __future__ import annotations

from typing import Any, Final

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest
from django.middleware.csrf import get_token
from django.urls import reverse

from orchestration.limits import engine_limits
from realtime.auth.identity import Identity
from realtime.auth.policy import ResourceType, may
from realtime.auth.sessions import identity_of_user
from realtime.connection.authentication import UNAUTHENTICATED, identity_without_credentials
from realtime.connection.client_address import ClientAddress, client_address_of
from realtime.connection.origin import websocket_host
from realtime.database import in_database_thread

_OPERATED: Final[tuple[ResourceType, ...]] = ("workflow", "pool", "worker", "definition")


async def viewer_of(request: HttpRequest) -> Identity:
    """Return who looks at a page: as for its WebSocket, a login counts where one is required."""
    if settings.MAHAVISHNU_REQUIRE_AUTH:
        user = await request.auser()
        return await in_database_thread(identity_of_user, user) if user.is_active else UNAUTHENTICATED
    address = client_address_of(request.scope) if isinstance(request, ASGIRequest) else ClientAddress(None)
    return identity_without_credentials(address)


async def _may_enter_admin(request: HttpRequest) -> bool:
    """Return whether the user may enter the admin. Without logins of the pages no user is known: the admin asks."""
    if not settings.MAHAVISHNU_REQUIRE_AUTH:
        return True
    user = await request.auser()
    return user.is_active and user.is_staff


async def page_settings(request: HttpRequest) -> dict[str, Any]:
    """Return what the page gets as JSON.

    Raises:
        DisallowedHost: if the request has a host that is not in `ALLOWED_HOSTS`.
    """
    viewer = await viewer_of(request)
    return {
        "root": reverse("overview"),
        "api": reverse("api:api-root") + "v1/",
        "admin": reverse("admin:index") if await _may_enter_admin(request) else "",
        "login": reverse("login"),
        "docs": reverse("docs"),
        "websocket_host": websocket_host(request),
        "csrf_token": get_token(request) if settings.MAHAVISHNU_REQUIRE_AUTH else "",
        "user": viewer.user_id,
        "reads_everything": may(viewer, "read", "global"),
        "cancel_grace_seconds": engine_limits().cancel_grace_seconds,
        "operates": [kind for kind in _OPERATED if may(viewer, "operate", kind)],
    }
