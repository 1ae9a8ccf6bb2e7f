"""Middleware for the paths of the API: what it refuses before it looks at credentials, and problems for error pages.

Nothing that a page of another site can send through a visitor's browser changes anything: such a request has a foreign
`Origin`, or a body that is not declared as JSON. With a login, it needs a CSRF token too
(`realtime/connection/page_session.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from realtime.api.problems import Problem, problem_for_response
from realtime.connection.page_session import SAFE_METHODS, has_own_origin
from realtime.protocol.problems import CONTENT_TYPE, ProblemCode
from realtime.web_origin import origin_of_server

PATH: Final = "/api/"
JSON: Final = "application/json"

GetResponse = Callable[[HttpRequest], Any]


@sync_and_async_middleware
def api_middleware(get_response: GetResponse) -> GetResponse:
    """Refuse what the API never takes, and answer errors below its path with problems."""
    if iscoroutinefunction(get_response):

        async def respond_async(request: HttpRequest) -> HttpResponseBase:
            if not _is_api(request):
                response: HttpResponseBase = await get_response(request)
                return response
            refusal = _refusal(request)
            return _finished(request, await get_response(request) if refusal is None else refusal.response())

        return respond_async

    def respond(request: HttpRequest) -> HttpResponseBase:
        if not _is_api(request):
            response: HttpResponseBase = get_response(request)
            return response
        refusal = _refusal(request)
        return _finished(request, get_response(request) if refusal is None else refusal.response())

    return respond


def _is_api(request: HttpRequest) -> bool:
    return request.path_info.startswith(PATH) and settings.MAHAVISHNU_SERVES != "websocket"


def _finished(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    is_problem = response.headers.get("Content-Type") == CONTENT_TYPE
    if isinstance(response, HttpResponse) and response.status_code >= 400 and not is_problem:
        response = problem_for_response(request, response)
    response.headers.setdefault("Cache-Control", "no-store")
    return response


def _refusal(request: HttpRequest) -> Problem | None:
    if request.method in SAFE_METHODS:
        return None
    return _origin_refusal(request) or _body_refusal(request)


def _origin_refusal(request: HttpRequest) -> Problem | None:
    origin = request.headers.get("Origin")
    if origin is None:
        return None
    try:
        if has_own_origin(request, origin):
            return None
    except DisallowedHost:
        return None  # Django refuses the request.
    own = origin_of_server(request.scheme or "http", request.get_host())
    return Problem(
        ProblemCode.FOREIGN_ORIGIN,
        f"The header `Origin` is not that of this server ({own}); programs send none",
    )


def _has_body(request: HttpRequest) -> bool:
    return "Transfer-Encoding" in request.headers or request.headers.get("Content-Length", "").strip("0") != ""


def _body_refusal(request: HttpRequest) -> Problem | None:
    encoding = request.headers.get("Content-Encoding")
    if encoding is not None:
        return Problem(
            ProblemCode.UNSUPPORTED_MEDIA_TYPE,
            f"The header `Content-Encoding` is {encoding[:100]!r}; send the body without an encoding",
        )
    content_type = request.headers.get("Content-Type", "")
    if content_type.lower() == JSON or not (content_type or _has_body(request)):
        return None
    return Problem(
        ProblemCode.UNSUPPORTED_MEDIA_TYPE,
        f"The header `Content-Type` is {content_type[:100]!r}; expected exactly {JSON!r}",
    )
