"""The table of handlers: which function answers which type of request.

A handler returns a `Response` or raises `RequestError`. Work that follows the response, such as a replay, is returned
with it as `after_send`. A handler that has to wait in the queue of the replays returns `Queued` instead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from realtime.connection.handlers.permissions import require_permission
from realtime.connection.registry import Connection, Reader
from realtime.protocol.channels import InvalidChannel
from realtime.protocol.cursors import InvalidCursor
from realtime.protocol.errors import ErrorCode, RequestError
from realtime.protocol.requests import Request


@dataclass(frozen=True, slots=True)
class Response:
    """The response to one request.

    Attributes:
        data: The `data` of the response message.
        after_send: Called once the response is written, if not None.
    """

    data: object
    after_send: Callable[[], Awaitable[None]] | None = None


@dataclass(frozen=True, slots=True)
class Queued:
    """A response that has to wait for its turn. The wait does not count as time for the request.

    Attributes:
        response: Waits, and returns the response. It may raise `RequestTimeout` and `RequestError`.
    """

    response: Callable[[], Awaitable[Response]]


Result = Response | Queued

C = TypeVar("C", bound=Reader)
R = TypeVar("R", bound=Request)
T = TypeVar("T")
_HANDLERS: dict[type[Request], Callable[[Any, Any], Awaitable[Result]]] = {}


def handles(
    request: type[R],
) -> Callable[[Callable[[C, R], Awaitable[Result]]], Callable[[C, R], Awaitable[Result]]]:
    """Register the decorated function as the handler of `request`."""

    def register(
        function: Callable[[C, R], Awaitable[Result]],
    ) -> Callable[[C, R], Awaitable[Result]]:
        _HANDLERS[request] = function
        return function

    return register


async def handle(connection: Connection, request: Request) -> Result:
    """Run the handler of `request` and return its response, or what waits for it.

    The order is: the grammar of channels, the permission, limits, existence. Nothing is read before the permission.

    Raises:
        RequestError: if the request is invalid or cannot be fulfilled.
    """
    try:
        require_permission(connection.identity, request)
        return await _HANDLERS[type(request)](connection, request)
    except InvalidChannel as error:
        raise RequestError(ErrorCode.INVALID_CHANNEL, str(error)) from None
    except InvalidCursor as error:
        raise RequestError(ErrorCode.INVALID_MESSAGE, str(error)) from None


def existing(found: T | None, resource_type: str, resource_id: str) -> T:
    """Return what was found.

    Raises:
        RequestError: with `NOT_FOUND` if that is None.
    """
    if found is None:
        raise RequestError(ErrorCode.NOT_FOUND, f"{resource_type.capitalize()} {resource_id[:128]!r} not found")
    return found
