"""One function per request of the API reference, found by the request's type.

A function answers with data, or raises `RequestError`. What has to happen right after the answer was sent, such as a
replay, it hands back with it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from msgspec.structs import replace

from orchestration.models import Pool, Workflow
from realtime import log
from realtime.channels import ID_PATTERN, InvalidChannel, check_channel
from realtime.database import in_database_thread
from realtime.frames import Frames
from realtime.limits import Limits
from realtime.protocol import (
    ErrorCode,
    GetPoolStatus,
    GetWorkflowStatus,
    PoolStatus,
    Request,
    RequestError,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    WorkflowStatus,
    encode_event,
)
from realtime.recovery import Start, find_start
from realtime.relay import READ_CHUNK_EVENTS, Relay, Room, Subscriber


class Session(Subscriber, Protocol):
    """A connection, as a request sees it."""

    relay: Relay
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
                session.relay.go_live(room, session, after=room.seq)

        return Answer(Subscribed(channel=channel), begin)

    session.relay.suspend(room, session)
    try:
        start = await in_database_thread(
            find_start,
            channel,
            since=request.since,
            epoch=request.epoch,
            with_snapshot=request.snapshot,
            max_replay_events=session.limits.max_replay_events,
        )
    except BaseException:
        session.relay.leave(channel, session)
        session.channels.discard(channel)
        raise
    after = start.position.seq if start.missed == 0 else request.since or 0
    return Answer(_subscribed(channel, request, start), lambda: _catch_up(session, room, after, start.position.seq))


def _subscribed(channel: str, request: Subscribe, start: Start) -> Subscribed:
    answered = Subscribed(channel=channel, seq=start.position.seq, epoch=start.position.epoch)
    fields: dict[str, Any] = {}
    if request.since is not None:
        fields |= {"recovered": start.reason is None, "missed": start.missed}
    if start.reason is not None:
        fields["reason"] = start.reason
    if request.snapshot:
        fields["snapshot"] = start.snapshot
    return replace(answered, **fields)


async def _catch_up(session: Session, room: Room, after: int, answered_seq: int) -> None:
    """Replay up to the answered position, then send what came since, until the subscription is live."""
    while room.channel in session.channels:
        replay = after < answered_seq
        through = answered_seq if replay else room.seq
        if not replay and session.relay.go_live(room, session, after=after):
            return
        events = await in_database_thread(log.read, room.channel, after=after, through=through, most=READ_CHUNK_EVENTS)
        if events:
            session.write(Frames([encode_event(event, room=room.channel, replay=replay) for event in events]))
            await session.caught_up()
        after = events[-1].seq if len(events) == READ_CHUNK_EVENTS else through


@answers(Unsubscribe)
async def unsubscribe(session: Session, request: Unsubscribe) -> Answer:
    channel = check_channel(request.channel)
    session.relay.leave(channel, session)
    session.channels.discard(channel)
    return Answer(Unsubscribed(channel=channel))


@answers(GetPoolStatus)
async def get_pool_status(session: Session, request: GetPoolStatus) -> Answer:
    return Answer(await in_database_thread(_pool_status, request.pool_id))


def _pool_status(pool_id: str) -> PoolStatus:
    _check_id("pool", pool_id)
    rows = list(Pool.objects.filter(pk=pool_id).order_by("workers__pk").values_list("status", "workers__pk"))
    if not rows:
        raise _not_found("pool", pool_id)
    workers = [worker_id for _, worker_id in rows if worker_id is not None]
    return PoolStatus(pool_id=pool_id, status=rows[0][0], workers=workers)


@answers(GetWorkflowStatus)
async def get_workflow_status(session: Session, request: GetWorkflowStatus) -> Answer:
    return Answer(await in_database_thread(_workflow_status, request.workflow_id))


def _workflow_status(workflow_id: str) -> WorkflowStatus:
    _check_id("workflow", workflow_id)
    fields = ("status", "stages_completed", "total_stages")
    found = Workflow.objects.filter(pk=workflow_id).values(*fields).first()
    if found is None:
        raise _not_found("workflow", workflow_id)
    return WorkflowStatus(workflow_id=workflow_id, **found)


def _check_id(resource_type: str, resource_id: str) -> None:
    """Nothing has an id of another form, and a database may not even be asked for one (Postgres takes no NUL)."""
    if re.fullmatch(ID_PATTERN, resource_id) is None:
        raise _not_found(resource_type, resource_id[:128])


def _not_found(resource_type: str, resource_id: str) -> RequestError:
    return RequestError(ErrorCode.NOT_FOUND, f"There is no {resource_type} {resource_id!r}")
