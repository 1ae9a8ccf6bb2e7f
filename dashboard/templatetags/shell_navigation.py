"""What the header and the navigation of a page contain. Nothing here reads the database: pages of errors use it too."""

from __future__ import annotations

from typing import Any

from django import template
from django.conf import settings
from django.urls import reverse

register = template.Library()


@register.simple_tag(takes_context=True)
def has_navigation(context: dict[str, Any]) -> bool:
    """Return whether a page of an error has the navigation.

    Where credentials are required, only a browser with a session gets it. Whether that is valid is not looked up: the
    navigation has no data, and leads to the login if it is not. The page of a fault has no request.
    """
    request = context.get("request")
    if request is None:
        return False
    return not settings.MAHAVISHNU_REQUIRE_AUTH or settings.SESSION_COOKIE_NAME in request.COOKIES


@register.simple_tag(takes_context=True)
def admin_url(context: dict[str, Any]) -> str:
    """Return the path of the admin; an empty text if the user may not enter it, or is not known here."""
    page_settings = context.get("page_settings")
    if page_settings is not None:
        path: str = page_settings["admin"]
        return path
    return "" if settings.MAHAVISHNU_REQUIRE_AUTH else reverse("admin:index")
