"""The health report and the start page."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from realtime.connection.origin import websocket_host
from realtime.health.report import report_health
from realtime.protocol.channels import CHANNEL_PATTERN


@csrf_exempt  # The view changes nothing. Without this, a POST is answered 403 instead of 405.
@require_safe
async def health(request: HttpRequest) -> JsonResponse:
    """Report the health of this process: 200 if every part works and it accepts connections, else 503."""
    # A server on a Unix socket has no address.
    address = request.scope.get("server") if isinstance(request, ASGIRequest) else None
    host, port = address or (request.get_host(), 0)
    report = await report_health(host=host, port=port)
    return JsonResponse(report, status=200 if report["status"] == "healthy" else 503)


@csrf_exempt
@require_safe
async def index(request: HttpRequest) -> HttpResponse:
    """Show the live events of one channel, for a person who opened the address in a browser."""
    context = {"channel_pattern": CHANNEL_PATTERN, "websocket_host": websocket_host(request)}
    # Unlike `asyncio.to_thread`, this passes the path prefix of the request on to `{% url %}`.
    return await sync_to_async(render, thread_sensitive=False)(request, "realtime/index.html", context)
