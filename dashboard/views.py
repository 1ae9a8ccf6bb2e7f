"""The views of the pages: each answers the same shell, and the scripts draw the page that the path names."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from dashboard.modules import page_modules
from dashboard.page_settings import page_settings


@csrf_exempt  # The view changes nothing. Without this, a POST is answered 403 instead of 405.
@require_safe
async def show_page(request: HttpRequest, *, title: str, module: str, **_: str) -> HttpResponse:
    """Show the shell of a page."""
    if (login := await login_first(request)) is not None:
        return login
    return await render_page(request, "dashboard/page.html", {"title": title, "modules": page_modules(module)})


async def login_first(request: HttpRequest) -> HttpResponse | None:
    """Return a redirect to the login, if credentials are required and there are none.

    The page's WebSocket would be refused without them.
    """
    if settings.MAHAVISHNU_REQUIRE_AUTH and not (await request.auser()).is_authenticated:
        return redirect_to_login(request.get_full_path(), login_url=reverse("login"))
    return None


async def render_page(request: HttpRequest, template: str, context: dict[str, Any]) -> HttpResponse:
    """Return a page in the shell, with the name of the user."""
    context = context | {"page_settings": await page_settings(request)}
    # Unlike `asyncio.to_thread`, this passes the path prefix of the request on to `{% url %}`.
    response = await sync_to_async(render, thread_sensitive=False)(request, template, context)
    response.headers["Cache-Control"] = "no-store"
    return response
