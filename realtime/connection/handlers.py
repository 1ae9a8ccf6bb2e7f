"""One function per request of the API reference, found by the request's type.

A function answers with data, or raises `RequestError`. What has to happen right after the answer was sent, such as a
replay, it hands back with it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from msgspec.structs import replace

from realtime.broadcast.relay import Relay
from realtime.broadcast.room import Room, Subscriber
from realtime.database import in_database_thread
from realtime.eventlog.log import EventsGone
from realtime.limits import Limits
from realtime.protocol.channels import InvalidChannel, check_channel
from realtime.protocol.errors import ErrorCode, RequestError
from realtime.protocol.frames import Frames
from realtime.protocol.messages import EventRecord, Subscribed, Unsubscribed, encode_event
from realtime.protocol.payload import encoded
from realtime.protocol.requests import GetPoolStatus, GetWorkflowStatus, Request, Subscribe, Unsubscribe
from realtime.queries.resume import REPLAY_CHUNK_EVENTS, Start, find_start, read_on
from realtime.queries.status import StatusQueries

_REPLAY_PART = 4
"""A replay is written in parts of about this fraction of the unsent bytes allowed."""


class Session(Subscriber, Protocol):
    """A connection, as a request sees it."""

    relay: Relay
    statuses: StatusQueries
    limits: Limits
    channels: set[str]

    async def caught_up(self) -> None:
        """Wait until this connection has taken most of what was written to it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The `data` of a response, and what follows it."""

    data: object
    then: Callable[[], Awaitable[None]] | None = None


R = TypeVar("R", bound=Request)
T = TypeVar("T")
_FUNCTIONS: dict[type[Request], Callable[[Session, Any], Awaitable[Answer]]] = {}


def answers(
    request: type[R],
) -> Callable[[Callable[[Session, R], Awaitable[Answer]]], Callable[[Session, R], Awaitable[Answer]]]:
    """Register the function that answers `request`."""

    def register(function: Callable[[Session, R], Awaitable[Answer]]) -> Callable[[Session, R], Awaitable[Answer]]:
        _FUNCTIONS[request] = function
        return function

    return register


async def answer(session: Session, request: Request) -> Answer:
    """Answer one request.

    Raises:
        RequestError: if it cannot be answered as asked.
    """
    try:
        return await _FUNCTIONS[type(request)](session, request)
    except InvalidChannel as error:
        raise RequestError(ErrorCode.INVALID_CHANNEL, str(error)) from None


@answers(Subscribe)
async def subscribe(session: Session, request: Subscribe) -> Answer:
    channel = check_channel(request.channel)
    is_new = channel not in session.channels
    if is_new and len(session.channels) >= session.limits.max_subscriptions:
        raise RequestError(
            ErrorCode.TOO_MANY_SUBSCRIPTIONS,
            f"This connection is subscribed to {len(session.channels)} channels, the most allowed: "
            "unsubscribe from one first, or open another connection",
        )
    room = await session.relay.join(channel, session)
    session.channels.add(channel)
    if request.since is None and not request.snapshot:

        async def begin() -> None:
            if is_new:
                room.go_live(session, after=room.seq)

        return Answer(Subscribed(channel=channel), begin)

    room.suspend(session)
    try:
        start = await in_database_thread(
            find_start,
            channel,
            since=request.since,
            epoch=request.epoch,
            with_snapshot=request.snapshot,
            limits=session.limits,
        )
    except BaseException:
        session.relay.leave(channel, session)
        session.channels.discard(channel)
        raise
    return Answer(_subscribed(channel, request, start), lambda: _catch_up(session, room, start))


def _subscribed(channel: str, request: Subscribe, start: Start) -> Subscribed:
    answered = Subscribed(channel=channel, seq=start.position.seq, epoch=start.position.epoch)
    fields: dict[str, Any] = {}
    if request.since is not None:
        fields |= {"recovered": start.reason is None, "missed": start.missed}
    if start.reason is not None:
        fields["reason"] = start.reason
    if start.snapshot is not None:
        fields["snapshot"] = encoded(start.snapshot)
    return replace(answered, **fields)


async def _catch_up(session: Session, room: Room, start: Start) -> None:
    """Replay up to the answered position, then send what came since, until the subscription is live."""
    answered_seq = through = start.position.seq
    events = start.events
    while True:
        await _send(session, room, events, replay=through == answered_seq)
        after = events[-1].seq if len(events) == REPLAY_CHUNK_EVENTS else through
        if room.channel not in session.channels:
            return
        if after >= answered_seq:
            if room.go_live(session, after=after):
                return
            through = room.seq
        try:
            events = await in_database_thread(
                read_on, room.channel, epoch=start.position.epoch, after=after, through=through
            )
        except EventsGone:
            session.log_was_replaced()
            return


async def _send(session: Session, room: Room, events: list[EventRecord], *, replay: bool) -> None:
    """Write events in parts, each once the client has taken most of the one before: a replay makes no slow reader."""
    part: list[bytes] = []
    bytes_left = session.limits.max_unsent_bytes // _REPLAY_PART
    for event in events:
        part.append(encode_event(event, room=room.channel, replay=replay))
        bytes_left -= len(part[-1])
        if bytes_left <= 0 or event is events[-1]:
            session.write(Frames(part))
            await session.caught_up()
            part, bytes_left = [], session.limits.max_unsent_bytes // _REPLAY_PART


@answers(Unsubscribe)
async def unsubscribe(session: Session, request: Unsubscribe) -> Answer:
    channel = check_channel(request.channel)
    session.relay.leave(channel, session)
    session.channels.discard(channel)
    return Answer(Unsubscribed(channel=channel))


@answers(GetPoolStatus)
async def get_pool_status(session: Session, request: GetPoolStatus) -> Answer:
    found = await session.statuses.pool(request.pool_id)
    return Answer(_existing(found, "pool", request.pool_id))


@answers(GetWorkflowStatus)
async def get_workflow_status(session: Session, request: GetWorkflowStatus) -> Answer:
    found = await session.statuses.workflow(request.workflow_id)
    return Answer(_existing(found, "workflow", request.workflow_id))


def _existing(found: T | None, resource_type: str, resource_id: str) -> T:
    if found is None:
        raise RequestError(ErrorCode.NOT_FOUND, f"There is no {resource_type} {resource_id[:128]!r}")
    return found
