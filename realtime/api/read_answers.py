"""Answer reads over the API by the handlers of the WebSocket's requests, and check the names in a query."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from django.http import HttpRequest, HttpResponse
from ninja import Schema

from realtime import runtime
from realtime.api.clients import quotas_of
from realtime.api.problems import Problem
from realtime.connection.handlers.handler_table import Queued, Response, Result
from realtime.connection.registry import Reader
from realtime.connection.replay_budget import ReplayBudget
from realtime.protocol.payload import encode_data
from realtime.protocol.problems import ProblemCode
from realtime.protocol.requests import Request
from realtime.queries.replay_reads import ReplayReads
from realtime.queries.status import StatusQueries

R = TypeVar("R", bound=Request)


class _ApiReader:
    """The client of one request, as the handlers of the WebSocket see a connection."""

    def __init__(self, budget: ReplayBudget) -> None:
        self.statuses: StatusQueries = runtime.status_queries()
        self.replay_reads: ReplayReads = runtime.replay_reads()
        self.replay_budget = budget


class Filters(Schema):
    """The parameters of a query."""

    def values(self) -> dict[str, Any]:
        """Return those that the client has given, by their names in the query."""
        return {
            name: value for name, value in self.model_dump(by_alias=True, exclude_unset=True).items() if value != []
        }


async def answer(
    request: HttpRequest, handler: Callable[[Reader, R], Awaitable[Result]], kind: type[R], values: dict[str, Any]
) -> HttpResponse:
    """Return what a handler of the WebSocket answers."""
    await runtime.ensure_log()
    result = await handler(_ApiReader(quotas_of(request).budget), msgspec.convert(values, kind))
    response = await result.response() if isinstance(result, Queued) else result
    return json_response(response)


def json_response(response: Response) -> HttpResponse:
    """Return the data of a response."""
    return HttpResponse(encode_data(response.data), content_type="application/json")


def check_names(request: HttpRequest, filters: type[Schema]) -> None:
    """Check the names in the query. A misspelled filter would list everything."""
    names = [field.alias or name for name, field in filters.model_fields.items()]
    unknown = [name for name in request.GET if name not in names]
    if unknown:
        expected = f"expected one of {', '.join(names)}" if names else "expected no parameters"
        raise Problem(
            ProblemCode.INVALID_PARAMETERS,
            f"query: unknown parameter {unknown[0][:64]!r}; {expected}",
            errors=[{"path": f"query.{name[:64]}", "detail": f"unknown; {expected}"} for name in unknown[:20]],
        )
