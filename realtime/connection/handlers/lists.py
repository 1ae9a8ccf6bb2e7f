"""Answer the requests for lists and whole states. Their reads wait in the queue of the replays."""

from __future__ import annotations

from functools import partial

from msgspec import UNSET

from realtime.connection.handlers.handler_table import Queued, Response, existing, handles
from realtime.connection.registry import Connection
from realtime.protocol.messages import PoolHistoryData, StageListData
from realtime.protocol.payload import raw_json
from realtime.protocol.requests import GetPoolHistory, ListStages
from realtime.queries.pool_history import PoolHistoryQuery, step_seconds_for


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
    page = existing(found, "workflow", request.workflow_id)
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
    found = existing(await connection.replay_reads.page(query), "pool", request.pool_id)
    connection.replay_budget.charge(found.cost_bytes)
    data = PoolHistoryData(
        pool_id=request.pool_id,
        step_seconds=step_seconds,
        samples=raw_json(found.samples),
        seq=found.position.seq,
        epoch=found.position.epoch,
    )
    return Response(data)
