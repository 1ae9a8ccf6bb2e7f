"""The pages of the site. WebSocket connections are routed in `asgi.py`."""

from __future__ import annotations

from django.conf import settings
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.templatetags.static import static
from django.urls import URLPattern, URLResolver, include, path, re_path
from django.views.decorators.http import require_safe

from mahavishnu_site.misdirected import misdirected_page
from realtime import views


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """Redirect to the icon: browsers ask for this path on their own, for example beside a JSON document."""
    return HttpResponseRedirect(static("dashboard/icon.svg"))


urlpatterns: list[URLPattern | URLResolver] = [re_path("^ws/?$", views.upgrade_required)]
if settings.MAHAVISHNU_SERVES == "websocket":
    urlpatterns += [path("health", views.health, name="health"), re_path("", misdirected_page)]
else:
    # Not imported in a process without pages: it takes time and memory.
    from dashboard.health_page import health
    from realtime.api import pages
    from realtime.api.api import api

    urlpatterns += [
        path("health", health, name="health"),
        path("", include("dashboard.urls")),
        path("admin/", admin.site.urls),
        path("api/openapi.json", pages.openapi_json, name="api-openapi"),
        path("api/", api.urls),
        path("favicon.ico", favicon),
    ]
