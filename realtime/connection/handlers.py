"""One function per request of the API reference, found by the request's type.

A function answers with data, or raises `RequestError`. What has to happen right after the answer was sent, such as a
replay, it hands back with it.
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
from realtime.protocol.payload import encoded
from realtime.protocol.requests import GetPoolStatus, GetWorkflowStatus, Request, Subscribe, Unsubscribe
from realtime.queries.resume import REPLAY_CHUNK_EVENTS, ResumePoint, find_resume_point, read_next

_REPLAY_PART = 4
"""A replay is written in parts of about this fraction of the unsent bytes allowed."""


@dataclass(frozen=True, slots=True)
class Response:
    """The `data` of a response, and what follows it."""

    data: object
    after_send: Callable[[], Awaitable[None]] | None = None


R = TypeVar("R", bound=Request)
T = TypeVar("T")
_HANDLERS: dict[type[Request], Callable[[Connection, Any], Awaitable[Response]]] = {}


def handles(
    request: type[R],
) -> Callable[[Callable[[Connection, R], Awaitable[Response]]], Callable[[Connection, R], Awaitable[Response]]]:
    """Register the function that answers `request`."""

    def register(
        function: Callable[[Connection, R], Awaitable[Response]],
    ) -> Callable[[Connection, R], Awaitable[Response]]:
        _HANDLERS[request] = function
        return function

    return register


async def handle(connection: Connection, request: Request) -> Response:
    """Answer one request.

    Raises:
        RequestError: if it cannot be answered as asked.
    """
    try:
        return await _HANDLERS[type(request)](connection, request)
    except InvalidChannel as error:
        raise RequestError(ErrorCode.INVALID_CHANNEL, str(error)) from None


@handles(Subscribe)
async def subscribe(connection: Connection, request: Subscribe) -> Response:
    channel = check_channel(request.channel)
    is_new = channel not in connection.channels
    if is_new and len(connection.channels) >= connection.limits.max_subscriptions:
        raise RequestError(
            ErrorCode.TOO_MANY_SUBSCRIPTIONS,
            f"This connection is subscribed to {len(connection.channels)} channels, the most allowed: "
            "unsubscribe from one first, or open another connection",
        )
    room = await connection.relay.join(channel, connection)
    connection.channels.add(channel)
    if request.since is None and not request.snapshot:

        async def begin() -> None:
            if is_new:
                room.activate(connection, after=room.seq)

        return Response(Subscribed(channel=channel), begin)

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
    return Response(_subscribed(channel, request, start), lambda: _catch_up(connection, room, start))


def _subscribed(channel: str, request: Subscribe, start: ResumePoint) -> Subscribed:
    answered = Subscribed(channel=channel, seq=start.position.seq, epoch=start.position.epoch)
    fields: dict[str, Any] = {}
    if request.since is not None:
        fields |= {"recovered": start.reason is None, "missed": start.missed}
    if start.reason is not None:
        fields["reason"] = start.reason
    if start.snapshot is not None:
        fields["snapshot"] = encoded(start.snapshot)
    return replace(answered, **fields)


async def _catch_up(connection: Connection, room: Room, start: ResumePoint) -> None:
    """Replay up to the answered position, then send what came since, until the subscription is live."""
    answered_seq = through = start.position.seq
    events = start.events
    while True:
        await _send(connection, room, events, replay=through == answered_seq)
        after = events[-1].seq if len(events) == REPLAY_CHUNK_EVENTS else through
        if room.channel not in connection.channels:
            return
        if after >= answered_seq:
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


async def _send(connection: Connection, room: Room, events: list[EventRecord], *, replay: bool) -> None:
    """Write events in parts, each once the client has taken most of the one before: a replay makes no slow reader."""
    part: list[bytes] = []
    bytes_left = connection.limits.max_send_queue_bytes // _REPLAY_PART
    for event in events:
        part.append(encode_event(event, room=room.channel, replay=replay))
        bytes_left -= len(part[-1])
        if bytes_left <= 0 or event is events[-1]:
            connection.write(Frames(part))
            await connection.caught_up()
            part, bytes_left = [], connection.limits.max_send_queue_bytes // _REPLAY_PART


@handles(Unsubscribe)
async def unsubscribe(connection: Connection, request: Unsubscribe) -> Response:
    channel = check_channel(request.channel)
    connection.relay.leave(channel, connection)
    connection.channels.discard(channel)
    return Response(Unsubscribed(channel=channel))


@handles(GetPoolStatus)
async def get_pool_status(connection: Connection, request: GetPoolStatus) -> Response:
    found = await connection.statuses.pool(request.pool_id)
    return Response(_existing(found, "pool", request.pool_id))


@handles(GetWorkflowStatus)
async def get_workflow_status(connection: Connection, request: GetWorkflowStatus) -> Response:
    found = await connection.statuses.workflow(request.workflow_id)
    return Response(_existing(found, "workflow", request.workflow_id))


def _existing(found: T | None, resource_type: str, resource_id: str) -> T:
    if found is None:
        raise RequestError(ErrorCode.NOT_FOUND, f"There is no {resource_type} {resource_id[:128]!r}")
    return found
