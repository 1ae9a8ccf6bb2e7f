"""Calls of the HTTP API of a server."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from typing import Any

from tests.harness.server import MahavishnuServer


@dataclass(frozen=True)
class Answered:
    """What the server answered."""

    status: int
    headers: Message
    text: str

    @property
    def body(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str | None:
        """The code of a problem; None for other answers."""
        is_problem = self.headers["Content-Type"] == "application/problem+json"
        return self.body["code"] if is_problem else None


def call(
    server: MahavishnuServer,
    method: str,
    path: str,
    body: object = None,
    *,
    token: str | None = None,
    headers: dict[str, str] | None = None,
) -> Answered:
    """Call the path below `/api/v1/`. A body that is not text or bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
    sent = {} if content is None else {"Content-Type": "application/json"}
    sent |= {} if token is None else {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(
        f"{server.http_url}/api/v1/{path}", data=content, method=method, headers=sent | (headers or {})
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return Answered(answer.status, answer.headers, answer.read().decode())
    except urllib.error.HTTPError as error:
        with error:
            return Answered(error.code, error.headers, error.read().decode())
