"""The ASGI application that serves the collected static files, with WhiteNoise's rules for caches and compression.

WhiteNoise itself is WSGI middleware.
"""

from __future__ import annotations

import asyncio
import re
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

_MAX_KEPT_BYTES: Final = 4 * 1024 * 1024
"""The bytes of answers that a process keeps. All files of the pages, compressed in each way, are half of it."""

# What WhiteNoise reads of a request.
_CONDITIONS: Final = (b"if-modified-since", b"if-none-match", b"range")
_READ_HEADERS: Final = (b"accept-encoding", *_CONDITIONS)


class _Files(WhiteNoise):
    """The files as they are now: a process of a later version may add some. With `DEBUG`, those of the apps."""

    def candidate_paths_for_url(self, url: str) -> Iterator[str]:
        if settings.DEBUG:
            for _root, prefix in self.directories:
                path = finders.find(url.removeprefix(prefix))
                if isinstance(path, str):
                    yield path
        yield from super().candidate_paths_for_url(url)


Headers = list[tuple[bytes, bytes]]
Answer = tuple[int, Headers, bytes]


class StaticFiles:
    """An ASGI application that answers requests below the URL of static files, and passes others on.

    Answers with files whose name contains their hash are kept: a page asks for sixty of them at once. A file read in a
    thread takes three times as long.

    Args:
        application: The application for other requests.
        root: The folder of the collected files.
        prefix: The path under which the site is published; empty for none.
    """

    def __init__(self, application: Application, *, root: Path, prefix: str) -> None:
        self._application = application
        self._kept: dict[tuple[str, str], Answer] = {}
        self._kept_bytes = 0
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
        key = self._key(scope)
        answer = self._kept.get(key) if key else None
        if answer is None:
            answer = await asyncio.to_thread(self._read, scope)
            if answer is not None and key:
                self._keep(key, answer)
        if answer is None:
            await answer_text(scope, send, HTTPStatus.NOT_FOUND, "This server has no such static file.\n")
            return
        status, headers, body = answer
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _key(self, scope: Scope) -> tuple[str, str] | None:
        """Return what the answer depends on; None if it is not to be kept."""
        if scope["method"] != "GET" or re.search(_HAS_HASH, scope["path"]) is None:
            return None
        headers = dict(scope["headers"])
        if not headers.keys().isdisjoint(_CONDITIONS):
            return None
        return scope["path"], headers.get(b"accept-encoding", b"").decode("latin-1")

    def _keep(self, key: tuple[str, str], answer: Answer) -> None:
        size_bytes = len(answer[2]) + sum(map(len, key))
        if answer[0] == HTTPStatus.OK and self._kept_bytes + size_bytes <= _MAX_KEPT_BYTES:
            self._kept_bytes += size_bytes
            self._kept[key] = answer

    def _read(self, scope: Scope) -> Answer | None:
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
