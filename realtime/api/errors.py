"""Which problem answers which error of the services, the queries and the framework."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, Final

from django.db import Error as DatabaseError
from django.http import Http404, HttpRequest, HttpResponse
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from orchestration import services
from orchestration.db.retry import is_unavailable
from orchestration.sdk.launch import LaunchError
from orchestration.sdk.parameters import InvalidParameter
from orchestration.sdk.registry import UnknownWorkflow
from orchestration.services.report_types import CreationNotAllowed, EngineOwned
from realtime.api.problems import Problem
from realtime.database import log_failure
from realtime.protocol.channels import InvalidChannel
from realtime.protocol.cursors import InvalidCursor
from realtime.protocol.errors import ErrorCode, RequestError
from realtime.protocol.problems import ProblemCode
from realtime.queries.replay_reads import RequestTimeout

logger = logging.getLogger(__name__)

RETRY_AFTER_SECONDS: Final = 2
"""When a client may try again, if the database is unavailable or slow."""

_NOT_FOUND: Final = (services.NotFound, services.UnknownPool)
_ENGINE_OWNED: Final = (services.EngineRun, services.EngineWorker, EngineOwned)


def problem_for(error: Exception) -> Problem | None:
    """Return the problem that answers an error; None for one that is a fault of the server."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, LaunchError):
        cause = error.__cause__
        known = problem_for(cause) if isinstance(cause, services.ServiceError | UnknownWorkflow) else None
        return known or Problem(ProblemCode.CANNOT_START, str(error))
    if isinstance(error, services.ServiceError | UnknownWorkflow):
        return _problem_for_service(error)
    if isinstance(error, RequestError):
        return _problem_for_request(error)
    if isinstance(error, InvalidChannel):
        return Problem(ProblemCode.INVALID_CHANNEL, str(error))
    if isinstance(error, InvalidCursor):
        return Problem(ProblemCode.INVALID_PARAMETERS, str(error).replace("data.", ""))
    if isinstance(error, RequestTimeout):
        return Problem(ProblemCode.UNAVAILABLE, f"The request {error}", retry_after_seconds=RETRY_AFTER_SECONDS)
    if isinstance(error, DatabaseError) and is_unavailable(error):
        return Problem(ProblemCode.UNAVAILABLE, "The database is unavailable", retry_after_seconds=RETRY_AFTER_SECONDS)
    return None


def _problem_for_service(error: services.ServiceError | UnknownWorkflow) -> Problem:
    detail = str(error)
    if isinstance(error, (*_NOT_FOUND, UnknownWorkflow)):
        return Problem(ProblemCode.NOT_FOUND, detail)
    if isinstance(error, _ENGINE_OWNED):
        return Problem(ProblemCode.ENGINE_OWNED, detail)
    if isinstance(error, CreationNotAllowed):
        return Problem(ProblemCode.FORBIDDEN, detail)
    if isinstance(error, services.IllegalTransition):
        fields = {"current": error.current, "requested": error.requested}
        return Problem(ProblemCode.INVALID_TRANSITION, detail, fields=fields)
    if isinstance(error, services.AlreadyAnswered):
        answered = {"by": error.by, "answered_at": error.at}
        return Problem(ProblemCode.ALREADY_ANSWERED, detail, fields=answered)
    if isinstance(error, services.InvalidAnswer):
        field = "body.payload" if error.kind == "signal" else "body.answer"
        path = ".".join(filter(None, (field, error.path)))
        return Problem(ProblemCode.INVALID_ANSWER, detail, errors=[{"path": path, "detail": error.expected}])
    if isinstance(error, services.WaitExpired):
        return Problem(ProblemCode.WAIT_EXPIRED, detail)
    if isinstance(error, services.WaitClosed):
        return Problem(ProblemCode.WAIT_CLOSED, detail)
    if isinstance(error, services.WorkflowNotRunning):
        return Problem(ProblemCode.INVALID_TRANSITION, detail)
    if isinstance(error, services.InvalidArgument):
        # `str()` shows the value, which may be of another client's making or long.
        expected = f"expected {error.expected}"
        return Problem(
            ProblemCode.INVALID_PARAMETERS,
            f"{error.argument}: {expected}",
            errors=[{"path": error.argument, "detail": expected}],
        )
    if isinstance(error, InvalidParameter):
        return Problem(
            ProblemCode.INVALID_PARAMETERS,
            detail,
            errors=[{"path": "body.params", "detail": error.reason}],
            fields={"parameters": error.parameters},
        )
    if isinstance(error, services.KeyConflict):
        differences = {"workflow_id": error.workflow_id, "differences": error.differences}
        return Problem(ProblemCode.CONFLICT, detail, fields=differences)
    return Problem(ProblemCode.CONFLICT, detail)


def _problem_for_request(error: RequestError) -> Problem:
    detail = error.message.replace("`data.", "`")
    if error.code == ErrorCode.NOT_FOUND:
        return Problem(ProblemCode.NOT_FOUND, detail)
    if error.code == ErrorCode.RATE_LIMIT_EXCEEDED:
        seconds = (error.retry_after_ms or 0) / 1000
        detail = detail.removesuffix("; the subscriptions are unchanged")
        return Problem(ProblemCode.RATE_LIMIT_EXCEEDED, detail, retry_after_seconds=seconds)
    return Problem(ProblemCode.INVALID_PARAMETERS, detail)


def _invalid(error: ValidationError) -> Problem:
    errors = [{"path": _path(each["loc"]), "detail": str(each["msg"])} for each in error.errors[:20]]
    detail = "; ".join(f"{each['path']}: {each['detail']}" for each in errors[:3])
    return Problem(ProblemCode.INVALID_PARAMETERS, detail, errors=errors)


def _path(location: tuple[Any, ...]) -> str:
    """Return where a value is: `query.limit`, or `body.params.x`."""
    source, *names = location
    if source in ("body", "query", "header", "path") and len(names) > 1 and names[0] in ("body", "filters", "page"):
        names = names[1:]
    elif names == ["body"]:
        names = []
    return ".".join(str(part)[:64] for part in (source, *names))


def _unreadable(error: HttpError) -> Problem:
    cause = error.__cause__ or error.__context__
    if isinstance(cause, Problem):
        return cause
    return Problem(ProblemCode.INVALID_JSON, "The body cannot be read")


def add_handlers(api: NinjaAPI) -> None:
    """Answer every error of the API with a problem."""

    def answered(problem: Callable[[Any], Problem]) -> Callable[[HttpRequest, Any], HttpResponse]:
        return lambda request, error: problem(error).response()

    def other(request: HttpRequest, error: Any) -> HttpResponse:
        found = problem_for(error)
        if found is None:
            raise error
        if found.code == ProblemCode.UNAVAILABLE:
            log_failure(logger, f"API request {request.method} {request.path[:200]!r} failed", error)
        return found.response()

    api.add_exception_handler(Exception, other)
    api.add_exception_handler(ValidationError, answered(_invalid))
    api.add_exception_handler(HttpError, answered(_unreadable))
    api.add_exception_handler(Http404, answered(lambda error: Problem(ProblemCode.NOT_FOUND, str(error))))
