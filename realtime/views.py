"""The pages that belong to the server itself: its health, and what it is."""

from __future__ import annotations

import asyncio

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from realtime.health import check_health


@csrf_exempt  # It changes nothing: who posts is told that it is to be read (405).
@require_safe
async def health(request: HttpRequest) -> JsonResponse:
    """Whether every part works and new connections are welcome: 200 if so, 503 saying why not."""
    # A server that listens on a Unix socket has no address.
    address = request.scope.get("server") if isinstance(request, ASGIRequest) else None
    host, port = address or (request.get_host(), 0)
    report = await check_health(host=host, port=port)
    return JsonResponse(report, status=200 if report["status"] == "healthy" else 503)


@csrf_exempt
@require_safe
async def index(request: HttpRequest) -> HttpResponse:
    """What is served here, for a person who opened the address in a browser."""
    return await asyncio.to_thread(render, request, "realtime/index.html", {"limits": settings.MAHAVISHNU_LIMITS})
