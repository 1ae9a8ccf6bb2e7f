"""The ASGI application that serves the collected static files, with WhiteNoise's rules for caches and compression.

WhiteNoise itself is WSGI middleware.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Final

from django.conf import settings
from django.contrib.staticfiles import finders
from whitenoise import WhiteNoise

from mahavishnu_site.path_prefix import Application, Receive
from mahavishnu_site.plain_text import Scope, Send, answer_text
from mahavishnu_site.security_headers import HEADERS

_HAS_HASH: Final = r"\.[0-9a-f]{12}\.[^./]+$"

# What WhiteNoise reads of a request.
_READ_HEADERS: Final = (b"accept-encoding", b"if-modified-since", b"if-none-match", b"range")


class _Files(WhiteNoise):
    """The files as they are now: a process of a later version may add some. With `DEBUG`, those of the apps."""

    def candidate_paths_for_url(self, url: str) -> Iterator[str]:
        if settings.DEBUG:
            for _root, prefix in self.directories:
                path = finders.find(url.removeprefix(prefix))
                if isinstance(path, str):
                    yield path
        yield from super().candidate_paths_for_url(url)


class StaticFiles:
    """An ASGI application that answers requests below the URL of static files, and passes others on.

    Args:
        application: The application for other requests.
        root: The folder of the collected files.
        prefix: The path under which the site is published; empty for none.
    """

    def __init__(self, application: Application, *, root: Path, prefix: str) -> None:
        self._application = application
        self._url = f"{prefix}/static/"
        # `autorefresh` looks for a file at each request. Otherwise, WhiteNoise would list all files at the start, and
        # answer 404 for those of the version to which a rolling restart changes.
        self._files = _Files(
            None,
            root=root,
            prefix=self._url,
            autorefresh=True,
            max_age=0,
            allow_all_origins=False,
            immutable_file_test=_HAS_HASH,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].startswith(self._url):
            await self._application(scope, receive, send)
            return
        answer = await asyncio.to_thread(self._read, scope)
        if answer is None:
            await answer_text(scope, send, HTTPStatus.NOT_FOUND, "This server has no such static file.\n")
            return
        status, headers, body = answer
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _read(self, scope: Scope) -> tuple[int, list[tuple[bytes, bytes]], bytes] | None:
        found = self._files.find_file(scope["path"])
        if found is None:
            return None
        request_headers = {
            f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode("latin-1")
            for name, value in scope["headers"]
            if name in _READ_HEADERS
        }
        response = found.get_response(scope["method"], request_headers)
        headers, body = {**HEADERS, **dict(response.headers)}, b""
        if response.file is not None:
            with response.file as file:
                body = file.read()
        elif response.status >= HTTPStatus.BAD_REQUEST:
            headers["Content-Length"] = "0"
        return int(response.status), [(name.lower().encode(), value.encode()) for name, value in headers.items()], body
