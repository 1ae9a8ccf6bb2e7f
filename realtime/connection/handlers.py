"""The handlers of all requests: one function per request type of the protocol.

A handler returns a `Response` or raises `RequestError`. Work that follows the response, such as a replay, is returned
with it as `after_send`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from msgspec.structs import replace

from realtime.broadcast.room import Room
from realtime.connection.registry import Connection
from realtime.database import in_database_thread
from realtime.eventlog.reader import PositionOutOfRange
from realtime.protocol.channels import InvalidChannel, check_channel
from realtime.protocol.errors import ErrorCode, RequestError
from realtime.protocol.frames import Frames
from realtime.protocol.messages import EventRecord, Subscribed, Unsubscribed, encode_event
from realtime.protocol.payload import raw_json
from realtime.protocol.requests import GetPoolStatus, GetWorkflowStatus, Request, Subscribe, Unsubscribe
from realtime.queries.resume import REPLAY_CHUNK_EVENTS, ResumePoint, find_resume_point, read_next

_REPLAY_WRITE_PART = 4
"""A replay is written in chunks of about `max_send_queue_bytes` divided by this."""


@dataclass(frozen=True, slots=True)
class Response:
    """The response to one request.

    Attributes:
        data: The `data` of the response message.
        after_send: Called once the response is written, if not None.
    """

    data: object
    after_send: Callable[[], Awaitable[None]] | None = None


R = TypeVar("R", bound=Request)
T = TypeVar("T")
_HANDLERS: dict[type[Request], Callable[[Connection, Any], Awaitable[Response]]] = {}


def handles(
    request: type[R],
) -> Callable[[Callable[[Connection, R], Awaitable[Response]]], Callable[[Connection, R], Awaitable[Response]]]:
    """Register the decorated function as the handler of `request`."""

    def register(
        function: Callable[[Connection, R], Awaitable[Response]],
    ) -> Callable[[Connection, R], Awaitable[Response]]:
        _HANDLERS[request] = function
        return function

    return register


async def handle(connection: Connection, request: Request) -> Response:
    """Run the handler of `request` and return its response.

    Raises:
        RequestError: if the request is invalid or cannot be fulfilled.
    """
    try:
        return await _HANDLERS[type(request)](connection, request)
    except InvalidChannel as error:
        raise RequestError(ErrorCode.INVALID_CHANNEL, str(error)) from None


@handles(Subscribe)
async def subscribe(connection: Connection, request: Subscribe) -> Response:
    """Subscribe to a channel, from a position or with a snapshot if requested."""
    channel = check_channel(request.channel)
    is_new = channel not in connection.channels
    if is_new and len(connection.channels) >= connection.limits.max_subscriptions:
        raise RequestError(
            ErrorCode.TOO_MANY_SUBSCRIPTIONS,
            f"Subscription limit reached ({len(connection.channels)} channels); "
            "unsubscribe from one first or open another connection",
        )
    room = await connection.relay.join(channel, connection)
    connection.channels.add(channel)
    if request.since is None and not request.snapshot:

        async def activate() -> None:
            if is_new:
                room.activate(connection, after=room.seq)

        return Response(Subscribed(channel=channel), activate)

    room.pause(connection)
    try:
        start = await in_database_thread(
            find_resume_point,
            channel,
            since=request.since,
            epoch=request.epoch,
            with_snapshot=request.snapshot,
            limits=connection.limits,
        )
    except BaseException:
        connection.relay.leave(channel, connection)
        connection.channels.discard(channel)
        raise
    return Response(_subscribed_data(channel, request, start), lambda: _replay(connection, room, start))


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


async def _replay(connection: Connection, room: Room, start: ResumePoint) -> None:
    """Replay up to the position in the response, then send later events, until the subscription is live."""
    response_seq = through = start.position.seq
    events = start.events
    while True:
        await _write_paced(connection, room, events, replay=through == response_seq)
        after = events[-1].seq if len(events) == REPLAY_CHUNK_EVENTS else through
        if room.channel not in connection.channels:
            return
        if after >= response_seq:
            if room.activate(connection, after=after):
                return
            through = room.seq
        try:
            events = await in_database_thread(
                read_next, room.channel, epoch=start.position.epoch, after=after, through=through
            )
        except PositionOutOfRange:
            connection.on_log_reset()
            return


async def _write_paced(connection: Connection, room: Room, events: list[EventRecord], *, replay: bool) -> None:
    """Write events in chunks. Before the next chunk, wait until the client has read most of this one.

    A replay larger than the send queue must not turn the client into a slow consumer.
    """
    chunk: list[bytes] = []
    bytes_left = connection.limits.max_send_queue_bytes // _REPLAY_WRITE_PART
    for event in events:
        chunk.append(encode_event(event, room=room.channel, replay=replay))
        bytes_left -= len(chunk[-1])
        if bytes_left <= 0 or event is events[-1]:
            connection.write(Frames(chunk))
            await connection.caught_up()
            chunk, bytes_left = [], connection.limits.max_send_queue_bytes // _REPLAY_WRITE_PART


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


def _existing(found: T | None, resource_type: str, resource_id: str) -> T:
    if found is None:
        raise RequestError(ErrorCode.NOT_FOUND, f"{resource_type.capitalize()} {resource_id[:128]!r} not found")
    return found
