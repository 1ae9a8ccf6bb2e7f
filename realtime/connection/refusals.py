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
from realtime.protocol.problems import CONTENT_TYPE, ProblemCode, encode_problem

logger = logging.getLogger(__name__)
_refused = LogThrottle(logger)

_TEXT: Final = "text/plain; charset=utf-8"

_NOT_IN_URL: Final = "A token must not be in a URL, which ends up in logs: send it "
_HANDSHAKE_IN_QUERY: Final = (
    f"{_NOT_IN_URL}as `Authorization: Bearer`, as the subprotocol `bearer.TOKEN` beside `mahavishnu.v1`, or in an "
    "`auth` request as the first message.\n"
)
_IN_QUERY: Final = f"{_NOT_IN_URL}in the header `Authorization: Bearer TOKEN`. Pages need a login instead."
_TOO_MANY_FAILURES: Final = "Too many refused tokens from this address.\n"

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[Any]]
Application = Callable[[Any, Any, Any], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to a request.

    Attributes:
        status: Its status.
        sentence: Its body.
        retry_after_seconds: How long the client has to wait, if that would help.
        content_type: What the body is.
    """

    status: HTTPStatus
    sentence: str
    retry_after_seconds: int | None = None
    content_type: str = _TEXT


def refusal_of(scope: Mapping[str, Any], address: ClientAddress) -> Refusal | None:
    """Return why a handshake is refused before its credentials are looked at; None if it is not."""
    if _has_token_in_url(scope):
        reason, refusal = "a token in the URL", Refusal(HTTPStatus.BAD_REQUEST, _HANDSHAKE_IN_QUERY)
    elif wait_seconds := auth_failures.wait_seconds(address.owner, now=asyncio.get_running_loop().time()):
        reason = "too many refused tokens (MAHAVISHNU_MAX_AUTH_FAILURES_PER_MINUTE)"
        refusal = Refusal(HTTPStatus.TOO_MANY_REQUESTS, _TOO_MANY_FAILURES, ceil(wait_seconds))
    else:
        return None
    _refused.log("Refused a handshake from %s: %s", peer_address(scope.get("client")), reason)
    return refusal


def _has_token_in_url(scope: Mapping[str, Any]) -> bool:
    return has_token_in_query((scope.get("query_string") or b"").decode("latin-1"))


def refuse_tokens_in_urls(application: Application, *, api_path: str, is_exempt: Callable[[str], bool]) -> Application:
    """Return an ASGI application for HTTP that answers 400 to each URL with a token, also of a file or of `/health`.

    Args:
        application: The application for other URLs.
        api_path: What the paths of the HTTP API begin with. They are answered with a problem.
        is_exempt: Whether a path is that of a page with other tokens in its URLs, such as a link that confirms an
            address.
    """

    async def serve(scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        if not _has_token_in_url(scope) or is_exempt(scope["path"]):
            await application(scope, receive, send)
            return
        _refused.log("Refused a request from %s: a token in the URL", peer_address(scope.get("client")))
        refusal = Refusal(HTTPStatus.BAD_REQUEST, f"{_IN_QUERY}\n")
        if scope["path"].startswith(api_path):
            problem = encode_problem(ProblemCode.TOKEN_IN_QUERY, _IN_QUERY)
            refusal = Refusal(HTTPStatus.BAD_REQUEST, problem, content_type=CONTENT_TYPE)
        await refuse(scope, send, refusal)

    return serve


async def refuse(scope: Mapping[str, Any], send: Send, refusal: Refusal) -> None:
    """Answer a handshake, or the request of a page. A server that can give handshakes no status answers 403."""
    is_page = scope["type"] == "http"
    if not is_page and "websocket.http.response" not in scope.get("extensions", {}):
        await send({"type": "websocket.close"})
        return
    body = refusal.sentence.encode()
    headers = [
        (b"content-type", refusal.content_type.encode()),
        (b"content-length", str(len(body)).encode()),
        (b"x-content-type-options", b"nosniff"),
    ]
    headers.append((b"cache-control", b"no-store") if is_page else (b"connection", b"close"))
    if refusal.retry_after_seconds is not None:
        headers.append((b"retry-after", str(refusal.retry_after_seconds).encode()))
    kind = "http" if is_page else "websocket.http"
    await send({"type": f"{kind}.response.start", "status": refusal.status.value, "headers": headers})
    await send({"type": f"{kind}.response.body", "body": b"" if scope.get("method") == "HEAD" else body})
