"""The views of the pages: each answers the same shell, and the scripts draw the page that the path names."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from dashboard.modules import imported_modules
from dashboard.page_settings import page_settings


@csrf_exempt  # The view changes nothing. Without this, a POST is answered 403 instead of 405.
@require_safe
async def show_page(request: HttpRequest, *, title: str, **_: str) -> HttpResponse:
    """Show the shell of a page.

    If credentials are required, the login comes first: the page's WebSocket would be refused without it.
    """
    if settings.MAHAVISHNU_REQUIRE_AUTH and not (await request.auser()).is_authenticated:
        return redirect_to_login(request.get_full_path(), login_url=reverse("login"))
    context = {"title": title, "page_settings": await page_settings(request), "modules": imported_modules()}
    # Unlike `asyncio.to_thread`, this passes the path prefix of the request on to `{% url %}`.
    response = await sync_to_async(render, thread_sensitive=False)(request, "dashboard/page.html", context)
    response.headers["Cache-Control"] = "no-store"
    return response
