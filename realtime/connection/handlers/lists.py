"""Answer the requests for lists and whole states. Their reads wait in the queue of the replays."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol, TypeVar, get_args

from msgspec import UNSET

from orchestration.text import storable
from realtime.connection.handlers.handler_table import Queued, Response, existing, handles
from realtime.connection.registry import Reader
from realtime.protocol.channels import check_channel
from realtime.protocol.cursors import InvalidCursor, decode_id_cursor, decode_timed_cursor
from realtime.protocol.errors import ErrorCode, RequestError
from realtime.protocol.list_messages import (
    EventListData,
    PoolHistoryData,
    PoolListData,
    StageListData,
    StageResultData,
    WaitListData,
    WorkerListData,
    WorkflowData,
    WorkflowListData,
)
from realtime.protocol.payload import raw_json
from realtime.protocol.requests import (
    GetPoolHistory,
    GetStageResult,
    GetWorkflow,
    ListEvents,
    ListPools,
    ListStages,
    ListWaits,
    ListWorkers,
    ListWorkflows,
    WorkflowStatusName,
)
from realtime.queries.event_pages import EventPage, EventQuery
from realtime.queries.pages import Page, PageQuery
from realtime.queries.pool_history import PoolHistory, PoolHistoryQuery, step_seconds_for
from realtime.queries.pool_pages import PoolQuery, WorkerQuery
from realtime.queries.resume import ResumePoint
from realtime.queries.stage_pages import StagePage, StageQuery
from realtime.queries.stage_results import StageResult, StageResultQuery
from realtime.queries.wait_pages import WaitQuery
from realtime.queries.workflow_filters import WorkflowFilters
from realtime.queries.workflow_pages import WorkflowPage, WorkflowQuery
from realtime.queries.workflow_state import WorkflowStateQuery


class _HasCost(Protocol):
    @property
    def cost_bytes(self) -> int: ...


P = TypeVar("P", bound="_HasCost | None")


def _queued(connection: Reader, query: PageQuery[P], response: Callable[[P], object]) -> Queued:
    """Return what reads a page when it is its turn, and charges the budget of the connection for it."""
    connection.replay_budget.check()

    async def read() -> Response:
        page = await connection.replay_reads.page(query)
        if page is not None:
            connection.replay_budget.charge(page.cost_bytes)
        return Response(response(page))

    return Queued(read)


@handles(GetWorkflow)
async def get_workflow(connection: Reader, request: GetWorkflow) -> Queued:
    """Return the state of a workflow, as in a snapshot."""

    def response(found: ResumePoint | None) -> WorkflowData:
        state = existing(found, "workflow", request.workflow_id)
        return WorkflowData(
            workflow_id=request.workflow_id,
            seq=state.position.seq,
            epoch=state.position.epoch,
            workflow=raw_json(state.snapshot or ""),
        )

    return _queued(connection, WorkflowStateQuery(request.workflow_id), response)


@handles(ListStages)
async def list_stages(connection: Reader, request: ListStages) -> Queued:
    """Return a page of the stages of a workflow, or of the items of one of them."""

    def response(found: StagePage | None) -> StageListData:
        page = existing(found, "workflow", request.workflow_id)
        if page.is_unknown_stage:
            raise _no_stage(request.workflow_id, request.item_of or "")
        return StageListData(
            workflow_id=request.workflow_id,
            seq=page.position.seq,
            epoch=page.position.epoch,
            stages=raw_json(page.stages),
            next_after=page.next_after,
            stage_counts=UNSET if page.stage_counts is None else page.stage_counts,
        )

    query = StageQuery(
        workflow_id=request.workflow_id,
        item_of=_stored(request.item_of),
        statuses=_statuses(request.status),
        after=request.after,
        limit=request.limit,
    )
    return _queued(connection, query, response)


@handles(GetStageResult)
async def get_stage_result(connection: Reader, request: GetStageResult) -> Queued:
    """Return the whole result of a stage."""

    def response(found: StageResult | None) -> StageResultData:
        result = existing(found, "workflow", request.workflow_id)
        if not result.status:
            raise _no_stage(request.workflow_id, request.stage_name)
        return StageResultData(
            workflow_id=request.workflow_id,
            stage_name=request.stage_name,
            seq=result.position.seq,
            epoch=result.position.epoch,
            status=result.status,
            attempt=result.attempt,
            result=raw_json(result.result),
            size_bytes=result.size_bytes,
            too_large=result.is_too_large or UNSET,
        )

    return _queued(connection, StageResultQuery(request.workflow_id, storable(request.stage_name)), response)


@handles(ListWorkflows)
async def list_workflows(connection: Reader, request: ListWorkflows) -> Queued:
    """Return a page of the workflows that pass the filters."""

    def response(page: WorkflowPage) -> WorkflowListData:
        return WorkflowListData(
            seq=page.position.seq,
            epoch=page.position.epoch,
            workflows=raw_json(page.workflows),
            next_cursor=page.next_cursor,
            counts=UNSET if page.counts is None else page.counts,
        )

    statuses = _statuses(request.status)
    filters = WorkflowFilters(
        statuses=() if len(statuses) == len(get_args(WorkflowStatusName)) else statuses,
        name=_stored(request.name),
        pool_id=_stored(request.pool_id),
        parent_id=_stored(request.parent_id),
        root_id=_stored(request.root_id),
        text=_stored(request.q),
        created_from=_in_utc(request.created_from, "from"),
        created_before=_in_utc(request.created_before, "to"),
        finished_from=_in_utc(request.finished_from, "finished_from"),
    )
    after = None if request.cursor is None else decode_timed_cursor(request.cursor)
    query = WorkflowQuery(filters=filters, after=after, limit=request.limit, with_counts=request.counts)
    return _queued(connection, query, response)


@handles(ListPools)
async def list_pools(connection: Reader, request: ListPools) -> Queued:
    """Return a page of the pools."""

    def response(page: Page) -> PoolListData:
        return PoolListData(
            seq=page.position.seq, epoch=page.position.epoch, pools=raw_json(page.rows), next_cursor=page.next_cursor
        )

    after = None if request.cursor is None else decode_id_cursor(request.cursor)
    query = PoolQuery(statuses=_statuses(request.status), after=after, limit=request.limit)
    return _queued(connection, query, response)


@handles(ListWorkers)
async def list_workers(connection: Reader, request: ListWorkers) -> Queued:
    """Return a page of the workers of a pool, or of all pools."""

    def response(page: Page) -> WorkerListData:
        return WorkerListData(
            seq=page.position.seq, epoch=page.position.epoch, workers=raw_json(page.rows), next_cursor=page.next_cursor
        )

    query = WorkerQuery(
        pool_id=_stored(request.pool_id),
        statuses=_statuses(request.status),
        after=None if request.cursor is None else decode_id_cursor(request.cursor),
        limit=request.limit,
    )
    return _queued(connection, query, response)


@handles(ListWaits)
async def list_waits(connection: Reader, request: ListWaits) -> Queued:
    """Return a page of what the stages of a workflow, or of all, wait for."""

    def response(page: Page) -> WaitListData:
        return WaitListData(
            seq=page.position.seq, epoch=page.position.epoch, waits=raw_json(page.rows), next_cursor=page.next_cursor
        )

    after = None if request.cursor is None else decode_timed_cursor(request.cursor)
    if after is not None and re.fullmatch("[0-9]{1,18}", after.id) is None:
        raise InvalidCursor
    query = WaitQuery(
        workflow_id=_stored(request.workflow_id),
        statuses=_statuses(request.status),
        kinds=_statuses(request.kind),
        recipients=tuple(map(storable, _statuses(request.to))),
        after=after,
        limit=request.limit,
    )
    return _queued(connection, query, response)


@handles(ListEvents)
async def list_events(connection: Reader, request: ListEvents) -> Queued:
    """Return a page of the events of a channel."""

    def response(page: EventPage) -> EventListData:
        return EventListData(
            channel=channel,
            seq=page.position.seq,
            epoch=page.position.epoch,
            events=raw_json(page.events),
            has_more=page.next_seq is not None,
            next_seq=page.next_seq,
        )

    channel = check_channel(request.channel)
    if request.before is not None and request.after is not None:
        raise RequestError(ErrorCode.INVALID_MESSAGE, "Expected at most one of `data.before` and `data.after`")
    query = EventQuery(
        channel=channel,
        before=request.before,
        after=request.after,
        names=tuple(sorted({storable(name) for name in request.names or ()})),
        limit=request.limit,
    )
    return _queued(connection, query, response)


@handles(GetPoolHistory)
async def get_pool_history(connection: Reader, request: GetPoolHistory) -> Queued:
    """Return the samples of a pool."""

    def response(found: PoolHistory | None) -> PoolHistoryData:
        history = existing(found, "pool", request.pool_id)
        return PoolHistoryData(
            pool_id=request.pool_id,
            step_seconds=step_seconds,
            samples=raw_json(history.samples),
            seq=history.position.seq,
            epoch=history.position.epoch,
        )

    step_seconds = step_seconds_for(request.minutes, request.step_seconds)
    query = PoolHistoryQuery(pool_id=request.pool_id, minutes=request.minutes, step_seconds=step_seconds)
    return _queued(connection, query, response)


def _statuses(status: str | Sequence[str] | None) -> tuple[str, ...]:
    """Return the statuses in one order, so that requests for the same ones share a read."""
    return (status,) if isinstance(status, str) else tuple(sorted(set(status or ())))


def _no_stage(workflow_id: str, stage_name: str) -> RequestError:
    message = f"Workflow {workflow_id!r} has no stage {stage_name[:128]!r}"
    return RequestError(ErrorCode.NOT_FOUND, message)


def _stored(text: str | None) -> str | None:
    """Return a text as the database stores it."""
    return None if text is None else storable(text)


def _in_utc(time: datetime | None, field: str) -> datetime | None:
    try:
        return None if time is None else time.astimezone(UTC)
    except OverflowError:
        message = f"Expected a time in the years 1 to 9999 of UTC in `data.{field}`"
        raise RequestError(ErrorCode.INVALID_MESSAGE, message) from None
