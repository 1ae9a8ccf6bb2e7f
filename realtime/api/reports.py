"""Report events over HTTP: an orchestrator elsewhere says what happened, and subscribers here see it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from ninja import Router

from orchestration.reporter import MAX_REPORTER_LENGTH
from orchestration.services.reports import Outcome, ReportRefused, apply_reports
from realtime.api.clients import Permissions, check_rate, permissions_of
from realtime.api.errors import problem_for
from realtime.api.idempotency import Answer, RequestKey, answer_once, key_of_request
from realtime.api.operation_bodies import Reported
from realtime.api.problems import Problem
from realtime.api.report_body import MAX_EVENTS, InvalidEvent, decode_items, read_event
from realtime.api.report_shapes import REPORTABLE, ReadReport, read_report
from realtime.auth.policy import may
from realtime.database import in_report_thread
from realtime.eventlog.position import current_position
from realtime.events.recorder import Recorded
from realtime.protocol.payload import encode_data
from realtime.protocol.problems import ProblemCode

router = Router(tags=["Reports"])

WITHOUT_NAME: Final = "local"
"""Who reports if the client has no credentials."""

_EVENT: Final = {
    "type": "object",
    "required": ["event", "data"],
    "properties": {
        "event": {"type": "string", "maxLength": 64, "description": f"{', '.join(REPORTABLE)}, or a name of your own"},
        "data": {"type": "object"},
        "timestamp": {"type": "string", "format": "date-time"},
        "room": {"type": "string", "description": "A further channel of an event with a name of your own"},
    },
}
_EVENTS: Final = {"type": "array", "items": _EVENT, "minItems": 1, "maxItems": MAX_EVENTS}
_BODY: Final = {
    "oneOf": [_EVENT, _EVENTS, {"type": "object", "required": ["events"], "properties": {"events": _EVENTS}}]
}


@router.post(
    "events",
    openapi_extra={"requestBody": {"required": True, "content": {"application/json": {"schema": _BODY}}}},
    response=Reported,
    operation_id="report_events",
    summary="Report events",
)
async def report_events(request: HttpRequest, atomic: bool = True) -> HttpResponse:
    """Store events in their order, in one transaction, and change the runs, stages, workers and pools they are about.

    With `atomic=false`, an event that is refused is left out, and its result has the `error`. Permission:
    `event:write:ID`.
    """
    permissions = permissions_of(request)
    check_rate(request)
    key = key_of_request(request, permissions.identity)
    answer = await in_report_thread(store_events, request.body, permissions, key, atomic=atomic)
    return answer.response()


def store_events(body: bytes, permissions: Permissions, key: RequestKey | None, *, atomic: bool) -> Answer:
    """Store the events of a body, and return the answer.

    Raises:
        Problem
    """
    items = decode_items(body)
    now = timezone.now()
    read: list[ReadReport | Problem] = []
    names: list[str] = []
    for index, item in enumerate(items):
        try:
            event = read_event(item, now=now)
            names.append(event.name)
            report = read_report(event)
            _check_permission(permissions, report)
            read.append(report)
        except (InvalidEvent, Problem) as error:
            problem = _problem(error, index)
            if atomic:
                raise problem from None
            names[index:] = [str(item.get("event"))[:64] if isinstance(item, dict) else ""]
            read.append(problem)
    reporter = (permissions.identity.user_id or WITHOUT_NAME)[:MAX_REPORTER_LENGTH]
    return answer_once(key, partial(_apply, read, names, permissions, atomic=atomic), reported_by=reporter)


def _check_permission(permissions: Permissions, report: ReadReport) -> None:
    for resource_id in report.about or (None,):
        permissions.check("write", "event", resource_id)
    # The answer would depend on whether the worker exists, and whose it is.
    worker_id = report.worker_id
    if worker_id is not None and not may(permissions.identity, "read", "worker", worker_id):
        permissions.check("write", "event", worker_id)


def _apply(
    read: list[ReadReport | Problem], names: list[str], permissions: Permissions, recorded: Recorded, *, atomic: bool
) -> Callable[[Recorded], Answer]:
    reports = [each for each in read if isinstance(each, ReadReport)]
    indexes = [index for index, each in enumerate(read) if isinstance(each, ReadReport)]
    last_events: list[int | None] = [None] * len(reports)

    def around(number: int, apply: Callable[[], bool]) -> bool:
        recorded.extra_event, recorded.extra = reports[number].extra_event, reports[number].extra
        before = recorded.announced
        changed = apply()
        if recorded.announced > before:
            last_events[number] = recorded.announced - 1
        return changed

    try:
        outcomes = apply_reports(
            [each.report for each in reports],
            all_or_nothing=atomic,
            may_create=partial(permissions.allow, "write", "pool"),
            around=around,
        )
    except ReportRefused as refused:
        raise _problem(refused.error, indexes[refused.index]) from None

    def answer(written: Recorded) -> Answer:
        results: list[Any] = [{"error": _error_of(each)} if isinstance(each, Problem) else None for each in read]
        # A report without an event has been seen once everything before the answer has.
        position = written.written[-1].seq if written.written else current_position().seq
        for number, index in enumerate(indexes):
            last = last_events[number]
            results[index] = _result(outcomes[number], position if last is None else written.written[last].seq, index)
        for name, result in zip(names, results, strict=True):
            result["event"] = name
        return Answer(200, encode_data({"results": results, "epoch": written.epoch}))

    return answer


def _result(outcome: Outcome, seq: int, index: int) -> dict[str, Any]:
    if isinstance(outcome, bool):
        return {"seq": seq, "changed": outcome}
    return {"error": _error_of(_problem(outcome, index))}


def _error_of(problem: Problem) -> dict[str, Any]:
    return {"code": problem.code, "status": problem.status, "detail": problem.detail, **problem.fields}


def _problem(error: Exception, index: int) -> Problem:
    """Return why an event is refused, with its place in the request."""
    path = f"events[{index}]"
    if isinstance(error, InvalidEvent):
        path = f"{path}.{error.path}".rstrip(".")
        return Problem(
            ProblemCode.INVALID_PARAMETERS,
            f"{path}: {error.expected}",
            errors=[{"path": path, "detail": error.expected}],
        )
    problem = problem_for(error)
    assert problem is not None, "every error of a service has one"
    return Problem(
        problem.code,
        f"{path}: {problem.detail}",
        errors=[{"path": path, "detail": problem.detail}],
        fields=problem.fields,
    )
