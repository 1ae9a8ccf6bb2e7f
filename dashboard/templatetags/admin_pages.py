"""What the templates of the admin need in addition: navigation, the time zone, and where the WebSocket is."""

from __future__ import annotations

from typing import Any, Final

from django import template
from django.conf import settings
from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest
from django.urls import reverse

from orchestration.admin.overview import Count, overview_counts
from orchestration.models import Pool, Stage, Wait, Worker, Workflow
from realtime.connection import origin
from realtime.models import Event

_LISTED: Final[tuple[type[Model], ...]] = (Workflow, Stage, Wait, Pool, Worker, Event)
_OWN_APPS: Final = (Workflow._meta.app_label, Event._meta.app_label)

register = template.Library()


@register.simple_tag(takes_context=True)
def admin_lists(context: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the lists that the user may see: their names and addresses, and whether the page belongs to them."""
    request: HttpRequest = context["request"]
    found = []
    for model in _LISTED:
        if admin.site.is_registered(model) and admin.site.get_model_admin(model).has_view_permission(request):
            options = model._meta
            url = reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
            name = str(options.verbose_name_plural).capitalize()
            found.append({"name": name, "url": url, "is_current": request.path.startswith(url)})
    return found


@register.simple_tag(takes_context=True)
def orchestration_counts(context: dict[str, Any]) -> list[Count]:
    """Return the numbers for the first page, if the user may see what they count."""
    user = context["request"].user
    may_view = user.has_perms(["orchestration.view_workflow", "orchestration.view_worker"])
    return overview_counts() if may_view else []


@register.filter
def own_apps_first(app_list: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the apps of the admin with those of this project first."""
    return sorted(app_list, key=lambda app: (*_OWN_APPS, app["app_label"]).index(app["app_label"]))


@register.simple_tag
def time_zone() -> str:
    """Return the name of the time zone of all times on the pages of the admin."""
    return settings.TIME_ZONE


@register.simple_tag(takes_context=True)
def websocket_host(context: dict[str, Any]) -> str:
    """Return the host and port of the WebSocket; an empty text if they are those of the page."""
    return origin.websocket_host(context["request"])
