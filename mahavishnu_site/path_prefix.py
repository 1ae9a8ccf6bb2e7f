"""The path under which a proxy publishes the server, such as `/mahavishnu` of `https://example.org/mahavishnu/`.

A proxy either keeps this prefix or removes it. Only one form of each path is answered: with both, a rule of the proxy
for `/mahavishnu/admin/` could be avoided with `/admin/` or `/mahavishnu/mahavishnu/admin/`.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

from mahavishnu_site.plain_text import Scope, Send, answer_text
from orchestration.log_throttle import LogThrottle

logger = logging.getLogger(__name__)

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_rejected = LogThrottle(logger)


def refuse_other_root_path(arguments: Sequence[str], prefix: str) -> None:
    """Exit if daphne was started with another `--root-path`: static files, cookies and commands would not have it."""
    parser = argparse.ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--root-path", default="")
    try:
        root_path = parser.parse_known_args(arguments)[0].root_path
    except argparse.ArgumentError:
        return  # daphne has rejected it.
    if root_path.removesuffix("/") not in ("", prefix):
        sys.exit(f"--root-path {root_path}: set MAHAVISHNU_PATH_PREFIX={root_path} instead")


class PathPrefix:
    """An ASGI application that moves another one to a prefix.

    Pages get the whole path and the prefix as `root_path`; the WebSocket gets its path without the prefix.

    Args:
        application: The application.
        prefix: As `web_access.parse_path_prefix` returns it, not empty.
        is_stripped: Whether the proxy has removed the prefix from the paths of requests.
    """

    def __init__(self, application: Application, prefix: str, *, is_stripped: bool) -> None:
        self._application = application
        self._prefix = prefix
        self._is_stripped = is_stripped

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._application(scope, receive, send)
            return
        inner = scope["path"] if self._is_stripped else self._without_prefix(scope["path"])
        if inner is not None:
            path = inner if scope["type"] == "websocket" else self._prefix + inner
            await self._application({**scope, "root_path": self._prefix, "path": path}, receive, send)
            return
        _rejected.log(
            "Rejected a request for %r: it is not below MAHAVISHNU_PATH_PREFIX=%s. "
            "Set MAHAVISHNU_PROXY_STRIPS_PREFIX=1 if the proxy removes the prefix",
            scope["path"],
            self._prefix,
        )
        if scope["type"] == "websocket":
            await receive()  # websocket.connect
            await send({"type": "websocket.close"})
            return
        await answer_text(scope, send, 404, f"Not found. This server answers below {self._prefix}/\n")

    def _without_prefix(self, path: str) -> str | None:
        if path == self._prefix:
            return "/"
        return path[len(self._prefix) :] if path.startswith(f"{self._prefix}/") else None
