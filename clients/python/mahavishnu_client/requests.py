"""The requests as methods. Written by `make clients` from the structs of the server."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar

from mahavishnu_client import responses

T = TypeVar("T")


class Requests:
    """Every request of the protocol but those that the client sends by itself.

    Each raises `RequestFailed` if the server answers with an error, such as `NotFound`; `ConnectionLost` if the
    connection ends first; and `RequestTimeout` if there is no answer within `timeout_seconds`.
    """

    async def _call(self, name: str, data: dict[str, Any], response: type[T], timeout_seconds: float | None) -> T:
        raise NotImplementedError

    async def get_pool_status(self, pool_id: str, *, timeout_seconds: float | None = None) -> responses.PoolStatusData:
        """Ask for the status and the workers of one pool."""
        data: dict[str, Any] = {"pool_id": pool_id}
        return await self._call("get_pool_status", data, responses.PoolStatusData, timeout_seconds)

    async def get_workflow_status(
        self, workflow_id: str, *, timeout_seconds: float | None = None
    ) -> responses.WorkflowStatusData:
        """Ask for the status and the progress of one workflow."""
        data: dict[str, Any] = {"workflow_id": workflow_id}
        return await self._call("get_workflow_status", data, responses.WorkflowStatusData, timeout_seconds)

    async def get_workflow(self, workflow_id: str, *, timeout_seconds: float | None = None) -> responses.WorkflowData:
        """Ask for the state of one workflow, as in a snapshot of its channel."""
        data: dict[str, Any] = {"workflow_id": workflow_id}
        return await self._call("get_workflow", data, responses.WorkflowData, timeout_seconds)

    async def list_stages(
        self,
        workflow_id: str,
        *,
        item_of: str | None = None,
        status: str | Sequence[str] | None = None,
        after: int | None = None,
        limit: int | None = None,
        timeout_seconds: float | None = None,
    ) -> responses.StageListData:
        """Ask for stages of one workflow, behind the position `after`, with the statuses `status` or any.

        With `item_of`, these are the items of the stage of that name.
        """
        data: dict[str, Any] = {
            "workflow_id": workflow_id,
            "item_of": item_of,
            "status": status,
            "after": after,
            "limit": limit,
        }
        return await self._call("list_stages", data, responses.StageListData, timeout_seconds)

    async def get_stage_result(
        self, workflow_id: str, stage_name: str, *, timeout_seconds: float | None = None
    ) -> responses.StageResultData:
        """Ask for the whole result of one stage or item, of which events may have a part."""
        data: dict[str, Any] = {"workflow_id": workflow_id, "stage_name": stage_name}
        return await self._call("get_stage_result", data, responses.StageResultData, timeout_seconds)

    async def list_workflows(
        self,
        *,
        status: str | Sequence[str] | None = None,
        name: str | None = None,
        pool_id: str | None = None,
        parent_id: str | None = None,
        root_id: str | None = None,
        q: str | None = None,
        created_from: datetime | None = None,
        created_before: datetime | None = None,
        finished_from: datetime | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        counts: bool | None = None,
        timeout_seconds: float | None = None,
    ) -> responses.WorkflowListData:
        """Ask for the workflows that pass all filters, the newest first, and for their number by status.

        `from` and `to` limit the time of their creation: from the first one on, and before the second one.
        `finished_from` selects those that have finished, at that time or later. `parent_id` selects the sub-runs of a
        workflow, and `root_id` all workflows below it.
        """
        data: dict[str, Any] = {
            "status": status,
            "name": name,
            "pool_id": pool_id,
            "parent_id": parent_id,
            "root_id": root_id,
            "q": q,
            "from": created_from,
            "to": created_before,
            "finished_from": finished_from,
            "cursor": cursor,
            "limit": limit,
            "counts": counts,
        }
        return await self._call("list_workflows", data, responses.WorkflowListData, timeout_seconds)

    async def list_pools(
        self,
        *,
        status: str | Sequence[str] | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        timeout_seconds: float | None = None,
    ) -> responses.PoolListData:
        """Ask for the pools, in the order of their ids."""
        data: dict[str, Any] = {"status": status, "cursor": cursor, "limit": limit}
        return await self._call("list_pools", data, responses.PoolListData, timeout_seconds)

    async def list_workers(
        self,
        *,
        pool_id: str | None = None,
        status: str | Sequence[str] | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        timeout_seconds: float | None = None,
    ) -> responses.WorkerListData:
        """Ask for the workers of one pool or of all, in the order of their ids."""
        data: dict[str, Any] = {"pool_id": pool_id, "status": status, "cursor": cursor, "limit": limit}
        return await self._call("list_workers", data, responses.WorkerListData, timeout_seconds)

    async def list_waits(
        self,
        *,
        workflow_id: str | None = None,
        status: str | Sequence[str] | None = None,
        kind: str | Sequence[str] | None = None,
        to: str | Sequence[str] | None = None,
        cursor: str | None = None,
        limit: int | None = None,
        timeout_seconds: float | None = None,
    ) -> responses.WaitListData:
        """Ask for what stages of one workflow or of all wait for, the newest first: what is open, or has `status`.

        `kind` selects questions, signals or times, and `to` the questions for one of these recipients.
        """
        data: dict[str, Any] = {
            "workflow_id": workflow_id,
            "status": status,
            "kind": kind,
            "to": to,
            "cursor": cursor,
            "limit": limit,
        }
        return await self._call("list_waits", data, responses.WaitListData, timeout_seconds)

    async def list_events(
        self,
        channel: str,
        *,
        before: int | None = None,
        after: int | None = None,
        names: Sequence[str] | None = None,
        limit: int | None = None,
        timeout_seconds: float | None = None,
    ) -> responses.EventListData:
        """Ask for events of one channel: the newest, the newest below `before`, or the oldest above `after`."""
        data: dict[str, Any] = {"channel": channel, "before": before, "after": after, "names": names, "limit": limit}
        return await self._call("list_events", data, responses.EventListData, timeout_seconds)

    async def get_pool_history(
        self,
        pool_id: str,
        *,
        minutes: int | None = None,
        step_seconds: int | None = None,
        timeout_seconds: float | None = None,
    ) -> responses.PoolHistoryData:
        """Ask for the metrics of one pool in the last `minutes`, with a sample every `step_seconds` or more."""
        data: dict[str, Any] = {"pool_id": pool_id, "minutes": minutes, "step_seconds": step_seconds}
        return await self._call("get_pool_history", data, responses.PoolHistoryData, timeout_seconds)

    async def list_definitions(self, *, timeout_seconds: float | None = None) -> responses.DefinitionListData:
        """Ask for the workflows that can be started."""
        data: dict[str, Any] = {}
        return await self._call("list_definitions", data, responses.DefinitionListData, timeout_seconds)

    async def get_server_status(self, *, timeout_seconds: float | None = None) -> responses.ServerStatusData:
        """Ask for the status of the server, its version and its limits."""
        data: dict[str, Any] = {}
        return await self._call("get_server_status", data, responses.ServerStatusData, timeout_seconds)
