"""Answers in plain text from ASGI applications in front of Django, with the headers that every page has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from mahavishnu_site.security_headers import HEADERS

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


async def answer_text(
    scope: Scope, send: Send, status: int, text: str, *, headers: Mapping[str, str] | None = None
) -> None:
    """Answer an HTTP request with a status and a text; `headers` are added to those of every page."""
    body = text.encode()
    named = {
        **HEADERS,
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(body)),
        **(headers or {}),
    }
    encoded = [(name.lower().encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
