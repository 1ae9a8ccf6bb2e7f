"""The command that creates the first account, for the login pages of a server that only this machine reaches."""

from __future__ import annotations

from typing import Any

from django import template
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.handlers.asgi import ASGIRequest
from django.db import Error

from realtime.connection.client_address import client_address_of

register = template.Library()


@register.simple_tag(takes_context=True)
def create_account_command(context: dict[str, Any]) -> str:
    """Return the command; an empty text if there is an account, or the person is not at the machine of the server."""
    request = context["request"]
    is_local = isinstance(request, ASGIRequest) and client_address_of(request.scope).is_direct_loopback
    if not is_local or settings.MAHAVISHNU_EXPOSED:
        return ""
    try:
        has_account = get_user_model()._default_manager.exists()
    except Error:
        return ""
    is_checkout = (settings.BASE_DIR / "manage.py").is_file()
    return "" if has_account else f"{'python manage.py' if is_checkout else 'mahavishnu'} createsuperuser"
