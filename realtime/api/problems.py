"""What the API answers when it refuses or fails: problem details (RFC 9457), each with a code for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil
from typing import Any, Final

from django.http import HttpRequest, HttpResponse

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
    NOT_FOUND = "NOT_FOUND"
    METHOD_NOT_ALLOWED = "METHOD_NOT_ALLOWED"
    CONFLICT = "CONFLICT"
    ENGINE_OWNED = "ENGINE_OWNED"
    INVALID_TRANSITION = "INVALID_TRANSITION"
    KEY_IN_USE = "KEY_IN_USE"
    BODY_TOO_BIG = "BODY_TOO_BIG"
    UNSUPPORTED_MEDIA_TYPE = "UNSUPPORTED_MEDIA_TYPE"
    INVALID_PARAMETERS = "INVALID_PARAMETERS"
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
    ProblemCode.AUTH_REQUIRED: ProblemType(401, "A token is required"),
    ProblemCode.AUTH_FAILED: ProblemType(401, "The token is not accepted"),
    ProblemCode.FORBIDDEN: ProblemType(403, "No permission"),
    ProblemCode.FOREIGN_ORIGIN: ProblemType(403, "Pages of other sites may not change anything"),
    ProblemCode.NOT_FOUND: ProblemType(404, "Not found"),
    ProblemCode.METHOD_NOT_ALLOWED: ProblemType(405, "The path has no such method"),
    ProblemCode.CONFLICT: ProblemType(409, "The stored state does not allow it"),
    ProblemCode.ENGINE_OWNED: ProblemType(409, "The engine changes it itself"),
    ProblemCode.INVALID_TRANSITION: ProblemType(409, "The stored status does not allow the requested one"),
    ProblemCode.KEY_IN_USE: ProblemType(409, "The first request with this Idempotency-Key is still running"),
    ProblemCode.BODY_TOO_BIG: ProblemType(413, "The body is too big"),
    ProblemCode.UNSUPPORTED_MEDIA_TYPE: ProblemType(415, "The body is not plain JSON"),
    ProblemCode.INVALID_PARAMETERS: ProblemType(422, "Parameters are missing or invalid"),
    ProblemCode.INVALID_CHANNEL: ProblemType(422, "No channel has such a name"),
    ProblemCode.CANNOT_START: ProblemType(422, "The workflow cannot be started"),
    ProblemCode.KEY_REUSED: ProblemType(422, "The Idempotency-Key belongs to another request"),
    ProblemCode.RATE_LIMIT_EXCEEDED: ProblemType(429, "Too many requests"),
    ProblemCode.SERVER_ERROR: ProblemType(500, "The server failed"),
    ProblemCode.UNAVAILABLE: ProblemType(503, "The server cannot answer now"),
}

_CODE_OF_STATUS: Final = {
    400: ProblemCode.INVALID_REQUEST,
    403: ProblemCode.FORBIDDEN,
    404: ProblemCode.NOT_FOUND,
    405: ProblemCode.METHOD_NOT_ALLOWED,
    413: ProblemCode.BODY_TOO_BIG,
    500: ProblemCode.SERVER_ERROR,
    503: ProblemCode.UNAVAILABLE,
}
"""For the responses that Django makes."""

_KEPT_HEADERS: Final = ("Allow", "Retry-After")


class Problem(Exception):
    """Raised for a request that is answered with a problem.

    Attributes:
        code: What kind of problem.
        detail: What is wrong with this request, and what is allowed.
        errors: Each part of the request that is wrong, with its `path` and what is expected there as `detail`.
        retry_after_seconds: When the same request may succeed; None if unknown.
        fields: Further fields of the problem.
    """

    def __init__(
        self,
        code: ProblemCode,
        detail: str,
        *,
        errors: Sequence[Mapping[str, str]] = (),
        retry_after_seconds: float | None = None,
        fields: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail
        self.errors = errors
        self.retry_after_seconds = retry_after_seconds
        self.fields = fields or {}

    @property
    def status(self) -> int:
        return PROBLEM_TYPES[self.code].status

    def response(self) -> HttpResponse:
        """Return the response."""
        body: dict[str, Any] = {
            "type": f"urn:mahavishnu:problem:{self.code.lower().replace('_', '-')}",
            "title": PROBLEM_TYPES[self.code].title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
            **self.fields,
        }
        if self.errors:
            body["errors"] = self.errors
        headers = {}
        if self.retry_after_seconds is not None:
            headers["Retry-After"] = f"{max(ceil(self.retry_after_seconds), 1)}"
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return HttpResponse(encode_data(body), status=self.status, content_type=CONTENT_TYPE, headers=headers)


def problem_for_response(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Return the problem that replaces an error page of Django."""
    code = _CODE_OF_STATUS.get(response.status_code)
    if code is None:
        return response
    allowed = response.headers.get("Allow")
    problem = Problem(code, _detail(request, code, allowed)).response()
    for name in _KEPT_HEADERS:
        if name in response.headers:
            problem.headers[name] = response.headers[name]
    return problem


def _detail(request: HttpRequest, code: ProblemCode, allowed: str | None) -> str:
    if code == ProblemCode.NOT_FOUND:
        return f"The API has no path {request.path[:200]!r}; openapi.json describes those that exist"
    if code == ProblemCode.METHOD_NOT_ALLOWED:
        return f"Expected one of the methods {allowed}"
    if code == ProblemCode.INVALID_REQUEST:
        return "A header such as `Host` (ALLOWED_HOSTS), or the path, is invalid"
    return PROBLEM_TYPES[code].title
