"""Streams of chunks over the API: the stored content, and the chunks of a running stage as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from http import HTTPStatus
from typing import Annotated, Any, Final

from django.conf import settings
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from ninja import Query, Router
from pydantic import Field

from realtime import runtime
from realtime.api.clients import address_of, admit, identity_of, quotas_of
from realtime.api.event_stream import EventStream, StreamPosition, parse_position
from realtime.api.problems import Problem
from realtime.api.read_answers import Filters, check_names
from realtime.connection.address_quota import quota_owner
from realtime.connection.handlers.handler_table import existing
from realtime.connection.http_output import EVENT_STREAM, Output, UnpausedOutput, output_of, resumed
from realtime.connection.registry import TooManyConnections, connection_registry
from realtime.connection.replay_budget import ReplayBudget
from realtime.database import in_database_thread
from realtime.protocol.channels import InvalidChannel
from realtime.protocol.problems import ProblemCode
from realtime.protocol.requests import MAX_SEQ
from realtime.protocol.stream_messages import STREAM_PREFIX, StreamChannel, parse_stream_channel
from realtime.queries.stream_states import StageStreams, StoredStream, find_stage_streams, read_stored_bytes
from realtime.streams.hub import TooManyStreams
from realtime.streams.stream_reader import PART_BYTES

router = Router(tags=["Reads"])

RETRY_AFTER_SECONDS: Final = 5
_TYPES: Final = {"text": "text/plain; charset=utf-8", "bytes": "application/octet-stream"}
_TEXT: Final[dict[str, Any]] = {"schema": {"type": "string"}}
_DOCUMENTED: Final = {
    "responses": {
        "200": {
            "description": "The content, or the events of a stream.",
            "content": dict.fromkeys((*_TYPES.values(), EVENT_STREAM), _TEXT),
            "headers": {
                "Stream-Attempt": {"description": "The attempt that wrote it.", "schema": {"type": "integer"}},
                "Stream-Status": {"description": "The status of the stage.", "schema": {"type": "string"}},
                "Stream-Length": {"description": "The bytes that were written.", "schema": {"type": "integer"}},
                "Stream-Sha256": {"description": "Of all of them, in hexadecimal.", "schema": {"type": "string"}},
            },
        },
        "204": {"description": "The client has received the end: it need not reconnect."},
    },
    "parameters": [
        {
            "in": "header",
            "name": "Last-Event-ID",
            "required": False,
            "description": "The `id` of the last event that the client has received.",
            "schema": {"type": "string", "pattern": "^[0-9]{1,9}-[0-9]{1,18}(-closed)?$"},
        }
    ],
}


class StreamFilters(Filters):
    """Which part of a stream."""

    offset: Annotated[int, Field(ge=0, le=MAX_SEQ)] = Field(default=0, description="Where to begin, in bytes.")
    attempt: Annotated[int | None, Field(ge=0, le=2**31 - 1)] = Field(
        default=None, description="The attempt that the client has bytes of. Those of another one begin at 0."
    )


@router.get(
    "workflows/{workflow_id}/stages/{path:stage_name}/streams/{stream_name}",
    operation_id="get_stream",
    summary="Read a stream of chunks",
    openapi_extra=_DOCUMENTED,
)
async def get_stream(
    request: HttpRequest, workflow_id: str, stage_name: str, stream_name: str, filters: Query[StreamFilters]
) -> HttpResponseBase:
    """Return the stored stream of a stage or, with `Accept: text/event-stream`, its chunks as events while they come.

    Permission: `workflow:read:ID`.
    """
    check_names(request, StreamFilters)
    admit(request, "read", "workflow", workflow_id)
    quotas_of(request).budget.check()
    channel = f"{STREAM_PREFIX}{workflow_id}/{stage_name}/{stream_name}"
    try:
        names = parse_stream_channel(channel)
    except InvalidChannel:
        existing(None, "stream", channel.removeprefix(STREAM_PREFIX))
        raise
    position = StreamPosition(filters.attempt, filters.offset)
    if any(each.strip().startswith(EVENT_STREAM) for each in request.headers.get("Accept", "").lower().split(",")):
        return await _events(request, channel, names, _resumed_at(request) or position)
    return await _content(request, names, position)


def _resumed_at(request: HttpRequest) -> StreamPosition | None:
    """Return where a client reconnects: a browser sends the id of the last event, and the same query again."""
    text = request.headers.get("Last-Event-ID")
    if not text:
        return None
    position = parse_position(text)
    if position is None:
        detail = "expected the `id` of an event of this stream, such as 1-42"
        errors = [{"path": "header.Last-Event-ID", "detail": detail}]
        raise Problem(ProblemCode.INVALID_PARAMETERS, f"Last-Event-ID: {detail}", errors=errors)
    return position


def _make_output(request: HttpRequest) -> Callable[[], Output]:
    return partial(output_of, request.scope) if isinstance(request, ASGIRequest) else UnpausedOutput


# --- The stored content ----------------------------------------------------------------------------------------------


async def _content(request: HttpRequest, names: StreamChannel, position: StreamPosition) -> HttpResponseBase:
    found = await in_database_thread(find_stage_streams, names.workflow_id, names.stage_name)
    stage = existing(found, "stage", f"{names.workflow_id}/{names.stage_name}")[0]
    stored = _stored(stage, names)
    offset = 0 if position.attempt not in (None, stored.attempt) else position.offset
    offset = min(offset, stored.stored_bytes)
    parts = _stored_parts(stage.stage_id, names.name, stored, offset, quotas_of(request).budget, _make_output(request))
    return StreamingHttpResponse(
        parts,
        content_type=_TYPES[stored.content_type],
        headers={
            "Content-Length": f"{stored.stored_bytes - offset}",
            "Stream-Attempt": f"{stored.attempt}",
            "Stream-Status": stage.status,
            "Stream-Length": f"{stored.length}",
            "Stream-Sha256": stored.sha256,
        },
    )


def _stored(stage: StageStreams, names: StreamChannel) -> StoredStream:
    """Return the stored stream.

    Raises:
        Problem: with `NOT_FOUND`, or with `CONFLICT` while the stage may still store it.
    """
    if (stored := stage.stored_of(names.name)) is not None:
        return stored
    if not stage.is_finished:
        raise Problem(
            ProblemCode.CONFLICT,
            f"Stage {names.stage_name[:128]!r} is {stage.status}: a stream is stored when its stage completes; "
            f"read it now with `Accept: {EVENT_STREAM}`",
        )
    raise Problem(
        ProblemCode.NOT_FOUND,
        f"Stage {names.stage_name[:128]!r} is {stage.status} and has no stored stream {names.name!r}",
    )


async def _stored_parts(
    stage_id: int, name: str, stored: StoredStream, offset: int, budget: ReplayBudget, make_output: Callable[[], Output]
) -> AsyncIterator[bytes]:
    """Yield the bytes of a stored stream from an offset on, at the pace of the client."""
    output = make_output()
    try:
        while offset < stored.stored_bytes:
            part = await in_database_thread(read_stored_bytes, stage_id, name, stored.attempt, offset, PART_BYTES)
            if not part:
                output.abort()  # The run was started again or removed: the rest of `Content-Length` does not come.
                return
            budget.charge(len(part))
            offset += len(part)
            yield part
            await resumed(output)
    finally:
        output.close()


# --- Server-sent events ----------------------------------------------------------------------------------------------


async def _events(
    request: HttpRequest, channel: str, names: StreamChannel, position: StreamPosition
) -> HttpResponseBase:
    if connection_registry.is_draining:
        raise Problem(ProblemCode.UNAVAILABLE, "This server is stopping", retry_after_seconds=1)
    # It checks whether tokens are revoked and logins have ended, while a response is open.
    await runtime.ensure_relay()
    hub = runtime.stream_hub()
    try:
        found = await hub.find(channel, names)
    except TooManyStreams as error:
        raise Problem(ProblemCode.UNAVAILABLE, str(error), retry_after_seconds=RETRY_AFTER_SECONDS) from None
    stream = existing(found, "stage", f"{names.workflow_id}/{names.stage_name}")
    if position.is_closed and position.attempt == stream.attempt and stream.stage.is_finished:
        return HttpResponse(status=HTTPStatus.NO_CONTENT)
    address = quota_owner(address_of(request))
    events = EventStream(
        hub,
        stream,
        position,
        identity=identity_of(request),
        address=address,
        budget=quotas_of(request).budget,
        make_output=_make_output(request),
        limits=settings.MAHAVISHNU_LIMITS,
    )
    try:
        connection_registry.check_room(events, address=address)
    except TooManyConnections as error:
        code = ProblemCode.UNAVAILABLE if error.address is None else ProblemCode.RATE_LIMIT_EXCEEDED
        raise Problem(code, str(error), retry_after_seconds=RETRY_AFTER_SECONDS) from None
    # A proxy such as nginx would keep events back.
    return StreamingHttpResponse(events.parts(), content_type=EVENT_STREAM, headers={"X-Accel-Buffering": "no"})
