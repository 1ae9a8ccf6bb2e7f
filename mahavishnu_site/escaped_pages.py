"""Middleware that shows hidden characters of data as escapes in every HTML page: the admin, the start page, errors.

A name of a stage or a prompt could otherwise reorder the text beside it (bidirectional controls), or look like another.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from inspect import iscoroutinefunction
from typing import cast

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.decorators import sync_and_async_middleware

from orchestration.text import escape_text

_UNCHANGED = re.compile(r"(<textarea\b[^>]*>.*?</textarea>|<[^>]*>)", re.DOTALL)
"""Tags, whose attributes are not text, and the fields of forms: saving a form must not store the escapes."""

GetResponse = Callable[[HttpRequest], HttpResponseBase] | Callable[[HttpRequest], Awaitable[HttpResponseBase]]


@sync_and_async_middleware
def escape_pages(get_response: GetResponse) -> GetResponse:
    """Escape the text of each HTML response."""
    if iscoroutinefunction(get_response):
        get_awaitable = cast(Callable[[HttpRequest], Awaitable[HttpResponseBase]], get_response)

        async def respond_async(request: HttpRequest) -> HttpResponseBase:
            return _escaped(await get_awaitable(request))

        return respond_async

    get_at_once = cast(Callable[[HttpRequest], HttpResponseBase], get_response)

    def respond(request: HttpRequest) -> HttpResponseBase:
        return _escaped(get_at_once(request))

    return respond


def _escaped(response: HttpResponseBase) -> HttpResponseBase:
    if isinstance(response, HttpResponse) and response.get("Content-Type", "").startswith("text/html"):
        page = response.content.decode(response.charset)
        escaped = escape_html(page)
        if escaped != page:
            response.content = escaped.encode(response.charset)
            if response.has_header("Content-Length"):
                response["Content-Length"] = str(len(response.content))
    return response


def escape_html(page: str) -> str:
    """Return the page with escapes in its text. It must be well-formed: `<` in data is `&lt;`."""
    if escape_text(page) == page:
        return page
    return "".join(part if part.startswith("<") else escape_text(part) for part in _UNCHANGED.split(page))
