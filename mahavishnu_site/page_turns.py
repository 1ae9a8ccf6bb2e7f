"""Turns for pages: a process renders few at a time, and hashes one password at a time. Other requests wait in order.

Each request for a page runs in a thread. With many threads, the event loop waits for Python's lock behind all of them,
and events are late. A waiting request has no thread. It ends when its client leaves, and is answered 503 if it waits
too long, or if too many wait.

Under daphne, the body of a request is complete before the request waits. Another ASGI server needs a proxy in front of
it that sends complete bodies: otherwise, a client that sends slowly keeps its turn.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import Any, Final

from mahavishnu_site.path_prefix import Application, Receive
from mahavishnu_site.plain_text import Scope, Send, answer_text
from orchestration.log_throttle import LogThrottle

_busy = LogThrottle(logging.getLogger(__name__))

MAX_CONCURRENT_ADMIN_PAGES: Final = 2
"""A slow query of one page does not hold up the others."""

MAX_CONCURRENT_OTHER_PAGES: Final = 1
"""These make no queries. 50 clients that request them without pause delay the median event by 4 ms; with two at a time
by 5 to 8 ms, and without a bound by 50 ms."""

MAX_CONCURRENT_STATIC_FILES: Final = 2
"""They wait for no slow page: a page needs several of them."""

MAX_CONCURRENT_API_REQUESTS: Final = 4
"""Their queries and changes run in the threads of `realtime.database`, which are few themselves."""

MAX_WAITING_REQUESTS: Final = 64
"""Requests that wait for one kind of turn. Each holds its body: `max_body_bytes` at most."""

MAX_WAIT_SECONDS: Final = 20.0
_RETRY_AFTER_SECONDS: Final = 5


class _ClientLeft(Exception):
    """The client of a waiting request has disconnected."""


class _TooBusy(Exception):
    """A request waits too long, or too many wait."""


class PageTurns:
    """An ASGI application that gives the HTTP requests of another one their turns, but none to `/health`.

    Args:
        application: The application.
        prefix: The path under which the site is published; empty for none.
    """

    def __init__(self, application: Application, *, prefix: str) -> None:
        self._application = application
        self._health_path = f"{prefix}/health"
        self._login_paths = (f"{prefix}/login", f"{prefix}/admin/login/")
        self._admin_path, self._api_path = f"{prefix}/admin/", f"{prefix}/api/"
        self._static_path = f"{prefix}/static/"
        # Also because a guess is only counted after its hash: those that arrive together are counted one by one.
        self._logins = _Turns(1)
        self._admin_pages, self._other_pages = _Turns(MAX_CONCURRENT_ADMIN_PAGES), _Turns(MAX_CONCURRENT_OTHER_PAGES)
        self._api_requests = _Turns(MAX_CONCURRENT_API_REQUESTS)
        self._static_files = _Turns(MAX_CONCURRENT_STATIC_FILES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == self._health_path and not _wants_page(scope):
            await self._application(scope, receive, send)
            return
        client = _WaitingClient(receive)
        try:
            async with self._turns_of(scope).turn(client) as turn:
                is_api = scope["path"].startswith(self._api_path)
                await self._application(scope, client.receive, turn.until_sent_in_parts(send) if is_api else send)
        except _ClientLeft:
            return
        except _TooBusy as error:
            _busy.log("Answered 503 to %s %r: %s", scope["method"], scope["path"], error)
            text = f"Too many requests wait for a page. Try again in {_RETRY_AFTER_SECONDS} seconds.\n"
            headers = {"Cache-Control": "no-store", "Retry-After": f"{_RETRY_AFTER_SECONDS}"}
            await answer_text(scope, send, HTTPStatus.SERVICE_UNAVAILABLE, text, headers=headers)

    def _turns_of(self, scope: Scope) -> _Turns:
        # Django takes a method in lower case for the same.
        if scope["method"].upper() == "POST" and scope["path"] in self._login_paths:
            return self._logins
        if scope["path"].startswith(self._api_path):
            return self._api_requests
        if scope["path"].startswith(self._static_path):
            return self._static_files
        return self._admin_pages if scope["path"].startswith(self._admin_path) else self._other_pages


def _wants_page(scope: Scope) -> bool:
    """Return whether `/health` may be answered with a page, which takes a thread; monitors get JSON."""
    return any(name == b"accept" and b"text/html" in value for name, value in scope.get("headers", ()))


class _WaitingClient:
    """What the client of a request sends while the request waits: the application receives it later."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._received: deque[MutableMapping[str, Any]] = deque()

    async def disconnected(self) -> None:
        """Return when the client has disconnected."""
        while True:
            self._received.append(await self._receive())
            if self._received[-1]["type"] == "http.disconnect":
                return

    async def receive(self) -> MutableMapping[str, Any]:
        return self._received.popleft() if self._received else await self._receive()


class _Turn:
    """The turn of one request."""

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free = free
        self._is_over = False

    def end(self) -> None:
        """Give the turn to the next request, once."""
        if not self._is_over:
            self._is_over = True
            self._free.release()

    def until_sent_in_parts(self, send: Send) -> Send:
        """Return what sends the answer. The turn ends with the first of several parts: a stream may last for hours."""

        async def send_part(message: MutableMapping[str, Any]) -> None:
            if message.get("more_body"):
                self.end()
            await send(message)

        return send_part


class _Turns:
    """The turns of one kind of request."""

    def __init__(self, turns: int) -> None:
        self._free = asyncio.Semaphore(turns)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self, client: _WaitingClient) -> AsyncIterator[_Turn]:
        """Wait for a turn, and have it during the `async with` block.

        Raises:
            _ClientLeft: if the client disconnects before.
            _TooBusy: if too many wait, or the turn does not come in time.
        """
        if self._free.locked():
            await self._wait(client)
        else:
            await self._free.acquire()
        turn = _Turn(self._free)
        try:
            yield turn
        finally:
            turn.end()

    async def _wait(self, client: _WaitingClient) -> None:
        if self._waiting >= MAX_WAITING_REQUESTS:
            raise _TooBusy(f"{self._waiting} others wait")
        self._waiting += 1
        turn, disconnect = asyncio.create_task(self._free.acquire()), asyncio.create_task(client.disconnected())
        try:
            await asyncio.wait({turn, disconnect}, timeout=MAX_WAIT_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if turn.done():
                return
            raise _ClientLeft if disconnect.done() else _TooBusy(f"it waited for {MAX_WAIT_SECONDS:g} s")
        except BaseException:
            if not turn.cancel() and not turn.cancelled():
                self._free.release()
            raise
        finally:
            self._waiting -= 1
            disconnect.cancel()
            with suppress(asyncio.CancelledError):
                await disconnect
