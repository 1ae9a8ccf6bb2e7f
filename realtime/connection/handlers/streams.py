"""Subscribe to streams of chunks. They are no channels of the event log: no position, no snapshot, no replay."""

from __future__ import annotations

from realtime.connection.handlers.handler_table import Response, existing
from realtime.connection.handlers.permissions import permission_of_channel
from realtime.connection.registry import Connection
from realtime.protocol.errors import ErrorCode, RequestError
from realtime.protocol.requests import Subscribe
from realtime.protocol.stream_messages import StreamSubscribed, parse_stream_channel
from realtime.streams.hub import TooManyStreams


async def subscribe_to_stream(connection: Connection, request: Subscribe) -> Response:
    """Subscribe to a stream, from an offset on. A second subscription to it replaces the first."""
    channel = request.channel
    names = parse_stream_channel(channel)
    if request.since is not None or request.snapshot:
        message = "Expected `data.offset` with the channel of a stream, neither `data.since` nor `data.snapshot`"
        raise RequestError(ErrorCode.INVALID_MESSAGE, message)
    connection.replay_budget.check()
    hub = connection.streams.hub
    try:
        found = await hub.find(channel, names)
    except TooManyStreams as error:
        raise RequestError(ErrorCode.TOO_MANY_SUBSCRIPTIONS, str(error)) from None
    stream = existing(found, "stage", f"{names.workflow_id}/{names.stage_name}")
    # The token may have been replaced meanwhile.
    permission_of_channel(channel).require(connection.identity)
    connection.streams.leave(channel)
    offset = request.offset or 0
    if request.attempt is not None and request.attempt != stream.attempt:
        offset = 0
    reader = hub.read(connection, stream, offset=offset)

    async def start() -> None:
        connection.streams.start(channel, reader)

    return Response(StreamSubscribed(channel=channel, attempt=reader.attempt, offset=offset), start)
