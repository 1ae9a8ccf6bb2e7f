"""The answer to a request that is rejected before it is read whole: a status and, if the body is too big, a problem."""

from __future__ import annotations

from http import HTTPStatus

from realtime.limits import Limits
from realtime.protocol.problems import CONTENT_TYPE, ProblemCode, encode_problem


def rejection(
    status: HTTPStatus, *, limits: Limits, is_head: bool = False, retry_after_seconds: int | None = None
) -> bytes:
    """Return an HTTP response after which the connection ends.

    Args:
        status: Its status.
        limits: The limits, one of which the request exceeds.
        is_head: Whether the method is `HEAD`, whose response has no body.
        retry_after_seconds: When the same request may succeed, if that is known.
    """
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", "Connection: close"]
    if retry_after_seconds is not None:
        lines.append(f"Retry-After: {retry_after_seconds}")
    body = b""
    if status is HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        lines.append(f"Content-Type: {CONTENT_TYPE}")
        detail = f"Expected a body of at most {limits.max_body_bytes} bytes (MAHAVISHNU_MAX_BODY_BYTES)"
        body = encode_problem(ProblemCode.BODY_TOO_BIG, detail).encode()
    head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
    return head.encode() + (b"" if is_head else body)
