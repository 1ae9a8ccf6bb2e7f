"""Turns for pages: a process renders few at a time, and hashes one password at a time. Other requests wait in order.

Each request for a page runs in a thread. With many threads, the event loop waits for Python's lock behind all of them,
and events are late. A waiting request has no thread. How many wait is bounded by `max_http_connections`.
"""

from __future__ import annotations

import asyncio
from typing import Final

from mahavishnu_site.path_prefix import Application, Receive, Scope, Send

MAX_CONCURRENT_PAGES: Final = 2
"""50 clients that request pages without pause delayed the median event by 50 ms without a bound."""

_LOGIN_PATH: Final = "/admin/login/"


class PageTurns:
    """An ASGI application that gives the HTTP requests of another one their turns.

    Args:
        application: The application.
        without_turn: The end of the paths that are answered at once.
    """

    def __init__(self, application: Application, *, without_turn: tuple[str, ...]) -> None:
        self._application = application
        self._without_turn = without_turn
        self._pages = asyncio.Semaphore(MAX_CONCURRENT_PAGES)
        # Also because a guess is only counted after its hash: those that arrive together are counted one by one.
        self._logins = asyncio.Semaphore(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith(self._without_turn):
            await self._application(scope, receive, send)
            return
        is_login = scope["method"] == "POST" and scope["path"].endswith(_LOGIN_PATH)
        async with self._logins if is_login else self._pages:
            await self._application(scope, receive, send)
