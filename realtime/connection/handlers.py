"""The handlers of all requests: one function per request type of the protocol.

A handler returns a `Response` or raises `RequestError`. Work that follows the response, such as a replay, is returned
with it as `after_send`. A handler that has to wait in the queue of the replays returns `Queued` instead.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from msgspec import UNSET
from msgspec.structs import replace

from realtime.broadcast.room import Room
from realtime.connection.registry import Connection
from realtime.connection.replay import Replay
from realtime.protocol.channels import InvalidChannel, check_channel
from realtime.protocol.errors import ErrorCode, RequestError
from realtime.protocol.messages import DefinitionListData, PoolHistoryData, StageListData, Subscribed, Unsubscribed
from realtime.protocol.payload import raw_json
from realtime.protocol.requests import (
    GetPoolHistory,
    GetPoolStatus,
    GetServerStatus,
    GetWorkflowStatus,
    ListDefinitions,
    ListStages,
    Request,
    Subscribe,
    Unsubscribe,
)
from realtime.queries.pool_history import PoolHistoryQuery, step_seconds_for
from realtime.queries.resume import ResumePoint


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

R = TypeVar("R", bound=Request)
T = TypeVar("T")
_HANDLERS: dict[type[Request], Callable[[Connection, Any], Awaitable[Result]]] = {}


def handles(
    request: type[R],
) -> Callable[[Callable[[Connection, R], Awaitable[Result]]], Callable[[Connection, R], Awaitable[Result]]]:
    """Register the decorated function as the handler of `request`."""

    def register(
        function: Callable[[Connection, R], Awaitable[Result]],
    ) -> Callable[[Connection, R], Awaitable[Result]]:
        _HANDLERS[request] = function
        return function

    return register


async def handle(connection: Connection, request: Request) -> Result:
    """Run the handler of `request` and return its response, or what waits for it.

    Raises:
        RequestError: if the request is invalid or cannot be fulfilled.
    """
    try:
        return await _HANDLERS[type(request)](connection, request)
    except InvalidChannel as error:
        raise RequestError(ErrorCode.INVALID_CHANNEL, str(error)) from None


@handles(Subscribe)
async def subscribe(connection: Connection, request: Subscribe) -> Result:
    """Subscribe to a channel, from a position or with a snapshot if requested."""
    channel = check_channel(request.channel)
    is_new = channel not in connection.channels
    if is_new and len(connection.channels) >= connection.limits.max_subscriptions:
        raise RequestError(
            ErrorCode.TOO_MANY_SUBSCRIPTIONS,
            f"Subscription limit reached ({len(connection.channels)} channels); "
            "unsubscribe from one first or open another connection",
        )
    is_plain = request.since is None and not request.snapshot
    if not is_plain:
        connection.replay_budget.check()
    room = await connection.relay.join(channel, connection)
    connection.channels.add(channel)
    if is_plain:

        async def activate() -> None:
            if is_new:
                room.activate(connection, after=room.seq)

        return Response(Subscribed(channel=channel), activate)

    room.pause(connection)
    return Queued(partial(_resume, connection, request, room))


async def _resume(connection: Connection, request: Subscribe, room: Room) -> Response:
    try:
        start = await connection.replay_reads.resume_point(
            room.channel, since=request.since, epoch=request.epoch, with_snapshot=request.snapshot
        )
    except BaseException:
        connection.relay.leave(room.channel, connection)
        connection.channels.discard(room.channel)
        raise
    connection.replay_budget.charge(start.cost_bytes)
    return Response(_subscribed_data(room.channel, request, start), Replay(connection, room, start).run)


def _subscribed_data(channel: str, request: Subscribe, start: ResumePoint) -> Subscribed:
    data = Subscribed(channel=channel, seq=start.position.seq, epoch=start.position.epoch)
    fields: dict[str, Any] = {}
    if request.since is not None:
        fields |= {"recovered": start.reason is None, "missed": start.missed}
    if start.reason is not None:
        fields["reason"] = start.reason
    if start.snapshot is not None:
        fields["snapshot"] = raw_json(start.snapshot)
    return replace(data, **fields)


@handles(Unsubscribe)
async def unsubscribe(connection: Connection, request: Unsubscribe) -> Response:
    """Unsubscribe from a channel."""
    channel = check_channel(request.channel)
    connection.relay.leave(channel, connection)
    connection.channels.discard(channel)
    return Response(Unsubscribed(channel=channel))


@handles(GetPoolStatus)
async def get_pool_status(connection: Connection, request: GetPoolStatus) -> Response:
    """Return the status and the workers of a pool."""
    found = await connection.statuses.pool(request.pool_id)
    return Response(_existing(found, "pool", request.pool_id))


@handles(GetWorkflowStatus)
async def get_workflow_status(connection: Connection, request: GetWorkflowStatus) -> Response:
    """Return the status and the progress of a workflow."""
    found = await connection.statuses.workflow(request.workflow_id)
    return Response(_existing(found, "workflow", request.workflow_id))


@handles(ListStages)
async def list_stages(connection: Connection, request: ListStages) -> Queued:
    """Return a page of the stages of a workflow, when it is its turn."""
    connection.replay_budget.check()
    return Queued(partial(_stage_page, connection, request))


async def _stage_page(connection: Connection, request: ListStages) -> Response:
    statuses = [request.status] if isinstance(request.status, str) else request.status or []
    found = await connection.replay_reads.stage_page(
        request.workflow_id, statuses=statuses, after=request.after, limit=request.limit
    )
    page = _existing(found, "workflow", request.workflow_id)
    connection.replay_budget.charge(page.cost_bytes)
    data = StageListData(
        workflow_id=request.workflow_id,
        seq=page.position.seq,
        epoch=page.position.epoch,
        stages=raw_json(page.stages),
        next_after=page.next_after,
        stage_counts=UNSET if page.stage_counts is None else page.stage_counts,
    )
    return Response(data)


@handles(GetPoolHistory)
async def get_pool_history(connection: Connection, request: GetPoolHistory) -> Queued:
    """Return the samples of a pool, when it is its turn."""
    connection.replay_budget.check()
    return Queued(partial(_pool_history, connection, request))


async def _pool_history(connection: Connection, request: GetPoolHistory) -> Response:
    step_seconds = step_seconds_for(request.minutes, request.step_seconds)
    query = PoolHistoryQuery(pool_id=request.pool_id, minutes=request.minutes, step_seconds=step_seconds)
    found = _existing(await connection.replay_reads.page(query), "pool", request.pool_id)
    connection.replay_budget.charge(found.cost_bytes)
    data = PoolHistoryData(
        pool_id=request.pool_id,
        step_seconds=step_seconds,
        samples=raw_json(found.samples),
        seq=found.position.seq,
        epoch=found.position.epoch,
    )
    return Response(data)


@handles(ListDefinitions)
async def list_definitions(connection: Connection, request: ListDefinitions) -> Response:
    """Return the workflows that can be started."""
    connection.replay_budget.check()
    found = await connection.statuses.definitions()
    connection.replay_budget.charge(found.size_bytes)
    data = DefinitionListData(definitions=raw_json(found.definitions), truncated=found.is_truncated or UNSET)
    return Response(data)


@handles(GetServerStatus)
async def get_server_status(connection: Connection, request: GetServerStatus) -> Response:
    """Return the status of this server process, which all requests share for a second."""
    return Response(await connection.server_status())


def _existing(found: T | None, resource_type: str, resource_id: str) -> T:
    if found is None:
        raise RequestError(ErrorCode.NOT_FOUND, f"{resource_type.capitalize()} {resource_id[:128]!r} not found")
    return found
