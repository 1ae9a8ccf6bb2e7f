"""What clients read over the API. The handlers of the WebSocket's requests answer: both have the same fields."""

from __future__ import annotations

from typing import Annotated

from django.http import HttpRequest, HttpResponse
from ninja import Query, Router
from pydantic import AwareDatetime, Field

from orchestration.identifiers import is_identifier
from realtime import runtime
from realtime.api import schemas
from realtime.api.clients import admit, quotas_of
from realtime.api.problems import Problem
from realtime.api.read_answers import Filters, answer, check_names, json_response
from realtime.auth.policy import ResourceType
from realtime.connection.handlers import lists, statuses
from realtime.connection.handlers.handler_table import Response, existing
from realtime.connection.handlers.permissions import permission_of_channel
from realtime.protocol import requests
from realtime.protocol.channels import CHANNEL_PATTERN, channel_of
from realtime.protocol.payload import raw_json
from realtime.protocol.problems import ProblemCode
from realtime.protocol.requests import MAX_EVENT_NAMES, MAX_LISTED_EVENTS, MAX_LISTED_ROWS, MAX_SEQ

router = Router(tags=["Reads"])

Limit = Annotated[int, Field(ge=1, le=MAX_LISTED_ROWS, description="The most rows of a page.")]
PageCursor = Annotated[str | None, Field(max_length=512, description="`next_cursor` of the page before.")]


async def _state(request: HttpRequest, resource_type: ResourceType, resource_id: str) -> HttpResponse:
    """Return the snapshot of a resource's channel."""
    check_names(request, Filters)
    admit(request, "read", resource_type, resource_id)
    budget = quotas_of(request).budget
    budget.check()
    found = None
    if is_identifier(resource_id):
        await runtime.ensure_log()
        channel = channel_of(resource_type, resource_id)
        found = await runtime.replay_reads().resume_point(channel, since=None, epoch=None, with_snapshot=True)
        budget.charge(found.cost_bytes)
    snapshot = None if found is None or found.snapshot == "null" else found
    state = existing(snapshot, resource_type, resource_id)
    return json_response(
        Response(
            {
                f"{resource_type}_id": resource_id,
                "seq": state.position.seq,
                "epoch": state.position.epoch,
                resource_type: raw_json(state.snapshot or ""),
            }
        )
    )


class WorkflowFilters(Filters):
    """Which workflows."""

    status: list[requests.WorkflowStatusName] = Field(default=[], max_length=6, description="One of these.")
    name: Annotated[str | None, Field(max_length=requests.MAX_NAME_CHARACTERS)] = Field(
        default=None, description="The name of the definition."
    )
    pool_id: str | None = Field(default=None, description="The pool.")
    parent_id: str | None = Field(default=None, description="The workflow whose sub-runs they are.")
    root_id: str | None = Field(default=None, description="The workflow at the top of their tree.")
    q: Annotated[str | None, Field(min_length=1, max_length=requests.MAX_SEARCH_CHARACTERS)] = Field(
        default=None, description="The beginning of the id, or a part of the prompt or the error."
    )
    created_from: AwareDatetime | None = Field(default=None, alias="from", description="Not created before.")
    created_before: AwareDatetime | None = Field(default=None, alias="to", description="Created before.")
    finished_from: AwareDatetime | None = Field(default=None, description="Finished at this time or later.")
    cursor: PageCursor = None
    limit: Limit = 100
    counts: bool = Field(default=False, description="Whether to count them by status.")


@router.get("workflows", response=schemas.WorkflowList, operation_id="list_workflows", summary="List workflows")
async def list_workflows(request: HttpRequest, filters: Query[WorkflowFilters]) -> HttpResponse:
    """Return a page of the workflows that pass all filters, the newest first. Permission: `workflow:read`."""
    check_names(request, WorkflowFilters)
    admit(request, "read", "workflow")
    return await answer(request, lists.list_workflows, requests.ListWorkflows, filters.values())


@router.get(
    "workflows/{workflow_id}", response=schemas.WorkflowDetail, operation_id="get_workflow", summary="Get a workflow"
)
async def get_workflow(request: HttpRequest, workflow_id: str) -> HttpResponse:
    """Return the state of a workflow with its stages. Permission: `workflow:read:ID`."""
    return await _state(request, "workflow", workflow_id)


class StageFilters(Filters):
    """Which stages."""

    item_of: Annotated[str | None, Field(max_length=requests.MAX_NAME_CHARACTERS)] = Field(
        default=None, description="The name of the stage whose items to list instead."
    )
    status: list[requests.StageStatusName] = Field(default=[], max_length=8, description="One of these.")
    after: Annotated[int | None, Field(ge=0, le=2**31 - 1)] = Field(
        default=None, description="`next_after` of the page before."
    )
    limit: Limit = 100


@router.get(
    "workflows/{workflow_id}/stages",
    response=schemas.StageList,
    operation_id="list_stages",
    summary="List the stages of a workflow",
)
async def list_stages(request: HttpRequest, workflow_id: str, filters: Query[StageFilters]) -> HttpResponse:
    """Return a page of the stages, or of the items of one of them, in order. Permission: `workflow:read:ID`."""
    check_names(request, StageFilters)
    admit(request, "read", "workflow", workflow_id)
    values = {**filters.values(), "workflow_id": workflow_id}
    return await answer(request, lists.list_stages, requests.ListStages, values)


@router.get(
    "workflows/{workflow_id}/stages/{path:stage_name}/result",
    response=schemas.StageResult,
    operation_id="get_stage_result",
    summary="Get the result of a stage",
)
async def get_stage_result(request: HttpRequest, workflow_id: str, stage_name: str) -> HttpResponse:
    """Return the whole result of a stage, or of an item such as `embed[3]`. Permission: `workflow:read:ID`."""
    check_names(request, Filters)
    admit(request, "read", "workflow", workflow_id)
    values = {"workflow_id": workflow_id, "stage_name": stage_name}
    if len(stage_name) > requests.MAX_NAME_CHARACTERS:
        existing(None, "stage", stage_name)
    return await answer(request, lists.get_stage_result, requests.GetStageResult, values)


class PoolFilters(Filters):
    """Which pools."""

    status: list[requests.PoolStatusName] = Field(default=[], max_length=3, description="One of these.")
    cursor: PageCursor = None
    limit: Limit = 100


@router.get("pools", response=schemas.PoolList, operation_id="list_pools", summary="List pools")
async def list_pools(request: HttpRequest, filters: Query[PoolFilters]) -> HttpResponse:
    """Return a page of the pools, in the order of their ids. Permission: `pool:read`."""
    check_names(request, PoolFilters)
    admit(request, "read", "pool")
    return await answer(request, lists.list_pools, requests.ListPools, filters.values())


@router.get("pools/{pool_id}", response=schemas.PoolDetail, operation_id="get_pool", summary="Get a pool")
async def get_pool(request: HttpRequest, pool_id: str) -> HttpResponse:
    """Return the state of a pool with its workers. Permission: `pool:read:ID`."""
    return await _state(request, "pool", pool_id)


class HistoryFilters(Filters):
    """Which samples."""

    minutes: int = Field(default=60, ge=1, le=requests.MAX_HISTORY_MINUTES, description="How long ago it begins.")
    step_seconds: Annotated[int | None, Field(ge=10, le=requests.MAX_HISTORY_MINUTES * 60)] = Field(
        default=None, description="The shortest time between two samples; by default, what a chart needs."
    )


@router.get(
    "pools/{pool_id}/history",
    response=schemas.PoolHistory,
    operation_id="get_pool_history",
    summary="Get the history of a pool",
)
async def get_pool_history(request: HttpRequest, pool_id: str, filters: Query[HistoryFilters]) -> HttpResponse:
    """Return samples of the counters of a pool, the oldest first. Permission: `pool:read:ID`."""
    check_names(request, HistoryFilters)
    admit(request, "read", "pool", pool_id)
    values = {**filters.values(), "pool_id": pool_id}
    return await answer(request, lists.get_pool_history, requests.GetPoolHistory, values)


class WorkerFilters(Filters):
    """Which workers."""

    pool_id: str | None = Field(default=None, description="The pool.")
    status: list[requests.WorkerStatusName] = Field(default=[], max_length=4, description="One of these.")
    cursor: PageCursor = None
    limit: Limit = 100


@router.get("workers", response=schemas.WorkerList, operation_id="list_workers", summary="List workers")
async def list_workers(request: HttpRequest, filters: Query[WorkerFilters]) -> HttpResponse:
    """Return a page of the workers, in the order of their ids. Permission: `pool:read:ID`, or `worker:read` for all."""
    check_names(request, WorkerFilters)
    if filters.pool_id is None:
        admit(request, "read", "worker")
    else:
        admit(request, "read", "pool", filters.pool_id)
    return await answer(request, lists.list_workers, requests.ListWorkers, filters.values())


@router.get("workers/{worker_id}", response=schemas.WorkerDetail, operation_id="get_worker", summary="Get a worker")
async def get_worker(request: HttpRequest, worker_id: str) -> HttpResponse:
    """Return the state of a worker. Permission: `worker:read:ID`."""
    return await _state(request, "worker", worker_id)


class WaitFilters(Filters):
    """Which waits."""

    workflow_id: str | None = Field(default=None, description="The workflow.")
    status: list[requests.WaitStatusName] = Field(default=["open"], max_length=4, description="One of these.")
    kind: list[requests.WaitKindName] = Field(default=[], max_length=3, description="One of these.")
    to: list[Annotated[str, Field(min_length=1, max_length=requests.MAX_RECIPIENT_CHARACTERS)]] = Field(
        default=[], max_length=requests.MAX_SELECTED_RECIPIENTS, description="One of these should answer."
    )
    cursor: PageCursor = None
    limit: Limit = 100


@router.get("waits", response=schemas.WaitList, operation_id="list_waits", summary="List what stages wait for")
async def list_waits(request: HttpRequest, filters: Query[WaitFilters]) -> HttpResponse:
    """Return a page of what stages wait for, the newest first. Permission: `workflow:read:ID`, or `workflow:read`."""
    check_names(request, WaitFilters)
    admit(request, "read", "workflow", filters.workflow_id)
    return await answer(request, lists.list_waits, requests.ListWaits, filters.values())


class EventFilters(Filters):
    """Which events."""

    channel: str = Field(
        description="`global`, `summary`, or `workflow:`, `pool:` or `worker:` and an id.",
        json_schema_extra={"pattern": f"^(?:{CHANNEL_PATTERN})$"},
    )
    before: Annotated[int | None, Field(ge=0, le=MAX_SEQ)] = Field(default=None, description="Only below it.")
    after: Annotated[int | None, Field(ge=0, le=MAX_SEQ)] = Field(default=None, description="Only above it.")
    names: list[Annotated[str, Field(min_length=1, max_length=64)]] = Field(
        default=[], max_length=MAX_EVENT_NAMES, description="One of these names."
    )
    limit: int = Field(default=100, ge=1, le=MAX_LISTED_EVENTS, description="The most events of a page.")


@router.get("events", response=schemas.EventList, operation_id="list_events", summary="List the events of a channel")
async def list_events(request: HttpRequest, filters: Query[EventFilters]) -> HttpResponse:
    """Return the newest events of a channel, the newest below `before`, or the oldest above `after`.

    Permission: that to read what the channel is of; `global:read` for `global` and `summary`.
    """
    check_names(request, EventFilters)
    if filters.before is not None and filters.after is not None:
        raise Problem(ProblemCode.INVALID_PARAMETERS, "Expected at most one of `before` and `after`")
    permission = permission_of_channel(filters.channel)
    admit(request, permission.action, permission.resource_type, permission.resource_id)
    return await answer(request, lists.list_events, requests.ListEvents, filters.values())


@router.get("definitions", response=schemas.DefinitionList, operation_id="list_definitions", summary="List definitions")
async def list_definitions(request: HttpRequest) -> HttpResponse:
    """Return the workflows that can be started, with the schemas of their parameters. Permission: `workflow:read`."""
    check_names(request, Filters)
    admit(request, "read", "workflow")
    return await answer(request, statuses.list_definitions, requests.ListDefinitions, {})
