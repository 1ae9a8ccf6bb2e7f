"""Subscribe to channels and unsubscribe from them."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from msgspec.structs import replace

from realtime.broadcast.room import Room
from realtime.connection.handlers.handler_table import Queued, Response, Result, handles
from realtime.connection.handlers.permissions import permission_of_channel
from realtime.connection.handlers.streams import subscribe_to_stream
from realtime.connection.registry import Connection
from realtime.connection.replay import Replay
from realtime.protocol.channels import check_channel
from realtime.protocol.errors import ErrorCode, RequestError
from realtime.protocol.messages import Subscribed, Unsubscribed
from realtime.protocol.payload import raw_json
from realtime.protocol.requests import Subscribe, Unsubscribe
from realtime.protocol.stream_messages import is_stream_channel
from realtime.queries.resume import ResumePoint


@handles(Subscribe)
async def subscribe(connection: Connection, request: Subscribe) -> Result:
    """Subscribe to a channel, from a position or with a snapshot if requested."""
    if is_stream_channel(request.channel):
        _check_number_of_subscriptions(connection, request.channel, connection.streams)
        return await subscribe_to_stream(connection, request)
    channel = check_channel(request.channel)
    if request.offset is not None or request.attempt is not None:
        message = "Expected `data.offset` and `data.attempt` with the channel of a stream only"
        raise RequestError(ErrorCode.INVALID_MESSAGE, message)
    is_new = channel not in connection.channels
    _check_number_of_subscriptions(connection, channel, connection.channels)
    is_plain = request.since is None and not request.snapshot
    if not is_plain:
        connection.replay_budget.check()
    room = await connection.relay.join(channel, connection)
    connection.channels.add(channel)
    _check_still_allowed(connection, channel)
    if is_plain:

        async def activate() -> None:
            if is_new:
                room.activate(connection, after=room.seq)

        return Response(Subscribed(channel=channel), activate)

    room.pause(connection)
    return Queued(partial(_resume, connection, request, room))


def _check_number_of_subscriptions(connection: Connection, channel: str, subscribed: Iterable[str]) -> None:
    """Check that a connection may subscribe to a channel, unless it is among those that it is subscribed to.

    Raises:
        RequestError: with `TOO_MANY_SUBSCRIPTIONS`.
    """
    count = len(connection.channels) + len(connection.streams)
    if count >= connection.limits.max_subscriptions and channel not in subscribed:
        raise RequestError(
            ErrorCode.TOO_MANY_SUBSCRIPTIONS,
            f"Subscription limit reached ({count} channels); unsubscribe from one first or open another connection",
        )


async def _resume(connection: Connection, request: Subscribe, room: Room) -> Response:
    try:
        start = await connection.replay_reads.resume_point(
            room.channel, since=request.since, epoch=request.epoch, with_snapshot=request.snapshot
        )
    except BaseException:
        leave(connection, room.channel)
        raise
    _check_still_allowed(connection, room.channel)
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
    channel = request.channel if is_stream_channel(request.channel) else check_channel(request.channel)
    leave(connection, channel)
    return Response(Unsubscribed(channel=channel))


def leave(connection: Connection, channel: str) -> None:
    """End the subscription to a channel, if there is one."""
    if is_stream_channel(channel):
        connection.streams.leave(channel)
        return
    connection.relay.leave(channel, connection)
    connection.channels.discard(channel)
    if len(connection.channels) < 2:
        connection.relay.position_notices.remove(connection)


def _check_still_allowed(connection: Connection, channel: str) -> None:
    """Check that the permission for a subscription was not lost while it waited: a token may have been refreshed.

    Raises:
        RequestError: with `FORBIDDEN`, after the channel was left.
    """
    try:
        permission_of_channel(channel).require(connection.identity)
    except RequestError:
        leave(connection, channel)
        raise
