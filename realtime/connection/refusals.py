"""Requests that are answered with a status and a sentence: handshakes without a WebSocket, and pages without Django."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from math import ceil
from typing import Any, Final

from orchestration.log_throttle import LogThrottle
from realtime.connection.auth_failures import auth_failures
from realtime.connection.client_address import ClientAddress, peer_address
from realtime.connection.credentials import has_token_in_query

logger = logging.getLogger(__name__)
_refused = LogThrottle(logger)

_IN_QUERY: Final = (
    "A token must not be in a URL, which ends up in logs: send it as `Authorization: Bearer`, as the subprotocol "
    "`bearer.TOKEN` beside `mahavishnu.v1`, or in an `auth` request as the first message.\n"
)
_TOO_MANY_FAILURES: Final = "Too many refused tokens from this address.\n"

Send = Callable[[Mapping[str, Any]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a request.

    Attributes:
        status: Its status.
        sentence: Its body.
        retry_after_seconds: How long the client has to wait, if that would help.
    """

    status: HTTPStatus
    sentence: str
    retry_after_seconds: int | None = None


def refusal_of(scope: Mapping[str, Any], address: ClientAddress) -> Refusal | None:
    """Return why a handshake is refused before its credentials are looked at; None if it is not."""
    if has_token_in_query((scope.get("query_string") or b"").decode("latin-1")):
        reason, refusal = "a token in the URL", Refusal(HTTPStatus.BAD_REQUEST, _IN_QUERY)
    elif wait_seconds := auth_failures.wait_seconds(address.owner, now=asyncio.get_running_loop().time()):
        reason = "too many refused tokens (MAHAVISHNU_MAX_AUTH_FAILURES_PER_MINUTE)"
        refusal = Refusal(HTTPStatus.TOO_MANY_REQUESTS, _TOO_MANY_FAILURES, ceil(wait_seconds))
    else:
        return None
    _refused.log("Refused a handshake from %s: %s", peer_address(scope.get("client")), reason)
    return refusal


async def refuse(scope: Mapping[str, Any], send: Send, refusal: Refusal) -> None:
    """Answer a handshake, or the request of a page. A server that can give handshakes no status answers 403."""
    is_page = scope["type"] == "http"
    if not is_page and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    body = refusal.sentence.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    if not is_page:
        headers.append((b"connection", b"close"))
    if refusal.retry_after_seconds is not None:
        headers.append((b"retry-after", str(refusal.retry_after_seconds).encode()))
    kind = "http" if is_page else "websocket.http"
    await send({"type": f"{kind}.response.start", "status": refusal.status.value, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": b"" if scope.get("method") == "HEAD" else body})
