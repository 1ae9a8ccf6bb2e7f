"""The command that creates the first account, for the login page of a server that nobody else reaches."""

from __future__ import annotations

from django import template
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import Error

register = template.Library()


@register.simple_tag
def create_account_command() -> str:
    """Return the command; an empty text if there is an account, or other machines reach the server."""
    if settings.MAHAVISHNU_EXPOSED:
        return ""
    try:
        has_account = get_user_model()._default_manager.exists()
    except Error:
        return ""
    is_checkout = (settings.BASE_DIR / "manage.py").is_file()
    return "" if has_account else f"{'python manage.py' if is_checkout else 'mahavishnu'} createsuperuser"
