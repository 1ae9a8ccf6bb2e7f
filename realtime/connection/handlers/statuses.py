"""Answer requests for statuses, and for what may be started."""

from __future__ import annotations

from msgspec import UNSET

from realtime.connection.handlers.handler_table import Response, existing, handles
from realtime.connection.registry import Connection, Reader
from realtime.protocol.list_messages import DefinitionListData
from realtime.protocol.payload import raw_json
from realtime.protocol.requests import GetPoolStatus, GetServerStatus, GetWorkflowStatus, ListDefinitions


@handles(GetPoolStatus)
async def get_pool_status(connection: Reader, request: GetPoolStatus) -> Response:
    """Return the status and the workers of a pool."""
    found = await connection.statuses.pool(request.pool_id)
    return Response(existing(found, "pool", request.pool_id))


@handles(GetWorkflowStatus)
async def get_workflow_status(connection: Reader, request: GetWorkflowStatus) -> Response:
    """Return the status and the progress of a workflow."""
    found = await connection.statuses.workflow(request.workflow_id)
    return Response(existing(found, "workflow", request.workflow_id))


@handles(ListDefinitions)
async def list_definitions(connection: Reader, request: ListDefinitions) -> Response:
    """Return the workflows that can be started."""
    connection.replay_budget.check()
    found = await connection.statuses.definitions()
    connection.replay_budget.charge(found.size_bytes)
    data = DefinitionListData(definitions=raw_json(found.definitions), truncated=found.is_truncated or UNSET)
    return Response(data)


@handles(GetServerStatus)
async def get_server_status(connection: Connection, request: GetServerStatus) -> Response:
    """Return the status of this server process, which all requests share for a second."""
    return Response(await connection.server_status())
