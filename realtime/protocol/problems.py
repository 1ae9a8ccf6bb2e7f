"""Problem details (RFC 9457): what a client of HTTP is answered if its request is refused or fails."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from realtime.protocol.payload import encode_data

CONTENT_TYPE: Final = "application/problem+json"


class ProblemCode(StrEnum):
    """The `code` of a problem. Those that errors of the WebSocket have too mean the same."""

    INVALID_REQUEST = "INVALID_REQUEST"
    INVALID_JSON = "INVALID_JSON"
    TOKEN_IN_QUERY = "TOKEN_IN_QUERY"
    AUTH_REQUIRED = "AUTH_REQUIRED"
    AUTH_FAILED = "AUTH_FAILED"
    FORBIDDEN = "FORBIDDEN"
    FOREIGN_ORIGIN = "FOREIGN_ORIGIN"
    CSRF_FAILED = "CSRF_FAILED"
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    CONFLICT = "CONFLICT"
    ENGINE_OWNED = "ENGINE_OWNED"
    INVALID_TRANSITION = "INVALID_TRANSITION"
    ALREADY_ANSWERED = "ALREADY_ANSWERED"
    WAIT_EXPIRED = "WAIT_EXPIRED"
    WAIT_CLOSED = "WAIT_CLOSED"
    KEY_IN_USE = "KEY_IN_USE"
    BODY_TOO_BIG = "BODY_TOO_BIG"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    INVALID_PARAMETERS = "INVALID_PARAMETERS"
    INVALID_ANSWER = "INVALID_ANSWER"
    INVALID_CHANNEL = "INVALID_CHANNEL"
    CANNOT_START = "CANNOT_START"
    KEY_REUSED = "KEY_REUSED"
    RATE_LIMIT_EXCEEDED = "RATE_LIMIT_EXCEEDED"
    SERVER_ERROR = "SERVER_ERROR"
    UNAVAILABLE = "UNAVAILABLE"


@dataclass(frozen=True, slots=True)
class ProblemType:
    """What all problems with one code have in common."""

    status: int
    title: str


PROBLEM_TYPES: Final[Mapping[ProblemCode, ProblemType]] = {
    ProblemCode.INVALID_REQUEST: ProblemType(400, "The server cannot read the request"),
    ProblemCode.INVALID_JSON: ProblemType(400, "The body is not acceptable JSON"),
    ProblemCode.TOKEN_IN_QUERY: ProblemType(400, "A token must not be in the URL"),
    ProblemCode.AUTH_REQUIRED: ProblemType(401, "A token or a login is required"),
    ProblemCode.AUTH_FAILED: ProblemType(401, "The token is not accepted"),
    ProblemCode.FORBIDDEN: ProblemType(403, "No permission"),
    ProblemCode.FOREIGN_ORIGIN: ProblemType(403, "Pages of other sites may not change anything"),
    ProblemCode.CSRF_FAILED: ProblemType(403, "The request is not known to come from a page of this server"),
    ProblemCode.NOT_FOUND: ProblemType(404, "Not found"),
    ProblemCode.METHOD_NOT_ALLOWED: ProblemType(405, "The path has no such method"),
    ProblemCode.CONFLICT: ProblemType(409, "The stored state does not allow it"),
    ProblemCode.ENGINE_OWNED: ProblemType(409, "The engine changes it itself"),
    ProblemCode.INVALID_TRANSITION: ProblemType(409, "The stored status does not allow the requested one"),
    ProblemCode.ALREADY_ANSWERED: ProblemType(409, "Another answer came first"),
    ProblemCode.WAIT_EXPIRED: ProblemType(409, "The time for an answer is over"),
    ProblemCode.WAIT_CLOSED: ProblemType(409, "Nothing waits for the answer"),
    ProblemCode.KEY_IN_USE: ProblemType(409, "The first request with this Idempotency-Key is still running"),
    ProblemCode.BODY_TOO_BIG: ProblemType(413, "The body is too big"),
    ProblemCode.UNSUPPORTED_MEDIA_TYPE: ProblemType(415, "The body is not plain JSON"),
    ProblemCode.INVALID_PARAMETERS: ProblemType(422, "Parameters are missing or invalid"),
    ProblemCode.INVALID_ANSWER: ProblemType(422, "The answer does not fit its form"),
    ProblemCode.INVALID_CHANNEL: ProblemType(422, "No channel has such a name"),
    ProblemCode.CANNOT_START: ProblemType(422, "The workflow cannot be started"),
    ProblemCode.KEY_REUSED: ProblemType(422, "The Idempotency-Key belongs to another request"),
    ProblemCode.RATE_LIMIT_EXCEEDED: ProblemType(429, "Too many requests"),
    ProblemCode.SERVER_ERROR: ProblemType(500, "The server failed"),
    ProblemCode.UNAVAILABLE: ProblemType(503, "The server cannot answer now"),
}


def encode_problem(
    code: ProblemCode, detail: str, *, errors: Sequence[Mapping[str, str]] = (), fields: Mapping[str, Any] | None = None
) -> str:
    """Return the JSON text of a problem.

    Args:
        code: What kind of problem.
        detail: What is wrong with this request, and what is allowed.
        errors: Each part of the request that is wrong, with its `path` and what is expected there as `detail`.
        fields: Further fields of the problem.
    """
    body: dict[str, Any] = {
        "type": f"urn:mahavishnu:problem:{code.lower().replace('_', '-')}",
        "title": PROBLEM_TYPES[code].title,
        "status": PROBLEM_TYPES[code].status,
        "detail": detail,
        "code": code,
        **(fields or {}),
    }
    if errors:
        body["errors"] = errors
    return encode_data(body)
