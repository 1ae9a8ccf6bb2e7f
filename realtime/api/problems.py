"""What the API answers when it refuses or fails: problem details (RFC 9457), each with a code for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any, Final

from django.http import HttpRequest, HttpResponse

from realtime.protocol.problems import CONTENT_TYPE, PROBLEM_TYPES, ProblemCode, encode_problem

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
        body = encode_problem(self.code, self.detail, errors=self.errors, fields=self.fields)
        headers = {}
        if self.retry_after_seconds is not None:
            headers["Retry-After"] = f"{max(ceil(self.retry_after_seconds), 1)}"
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return HttpResponse(body, status=self.status, content_type=CONTENT_TYPE, headers=headers)


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
