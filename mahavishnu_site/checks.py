"""Django system checks of the site: settings that are valid but that an operator should know about."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register

OPEN_TO_EVERYONE = (
    "Open to everyone: MAHAVISHNU_HOST, ALLOWED_HOSTS or MAHAVISHNU_ALLOWED_ORIGINS names more than this machine, and "
    "the WebSocket has no login"
)


def install() -> None:
    """Register the checks; `manage.py check` runs them."""
    register(check_access_control, Tags.security, deploy=True)


def check_access_control(**_: Any) -> list[CheckMessage]:
    """Warn about a server that other machines can reach."""
    if not settings.MAHAVISHNU_EXPOSED:
        return []
    return [
        Warning(
            f"{OPEN_TO_EVERYONE}.",
            hint="Restrict access in the proxy or the network; see docs/operations.md, access control.",
            id="mahavishnu.W001",
        )
    ]
