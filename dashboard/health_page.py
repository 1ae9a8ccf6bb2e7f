"""`/health` for a person: a page for browsers, and JSON for everyone else."""

from __future__ import annotations

from typing import Any, Final

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.cache import patch_vary_headers
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from realtime import views

_JSON: Final = "application/json"
_SHOWN_APART: Final = ("status", "problems")
_LABELS: Final = {
    "connections": "Connections (open)",
    "rooms": "Rooms (channels)",
    "max_connections": "Max connections (per process)",
    "message_rate_limit": "Message rate limit (messages/s)",
    "log_seq": "Log seq (last event)",
    "relay_lag_ms": "Relay lag (ms)",
    "delivered_events": "Delivered events (since the start)",
    "large_events": "Large events (since the start)",
}
"""What each number counts, and its unit."""


@csrf_exempt  # As for the JSON.
@require_safe
async def health(request: HttpRequest) -> HttpResponse:
    """Report the health of this process as `realtime.views.health` does, to browsers as a page."""
    response: HttpResponse
    if request.get_preferred_type([_JSON, "text/html"]) == "text/html":
        report, status = await views.report_for(request)
        response = await sync_to_async(render, thread_sensitive=False)(
            request, "dashboard/health.html", _context(report), status=status
        )
        response.headers["Cache-Control"] = "no-store"
    else:
        response = await views.health(request)
    patch_vary_headers(response, ["Accept"])
    return response


def _context(report: dict[str, Any]) -> dict[str, Any]:
    rows = [
        (_LABELS.get(name, name.replace("_", " ").capitalize()), _text(value))
        for name, value in report.items()
        if name not in _SHOWN_APART
    ]
    return {"status": report["status"], "problems": report.get("problems", []), "rows": rows}


def _text(value: object) -> str:
    if value is None:
        return "unknown"
    return f"{value:g}" if isinstance(value, float) else str(value)
