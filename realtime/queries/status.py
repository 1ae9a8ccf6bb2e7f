"""Read what status requests ask for. Concurrent requests share one query."""

from __future__ import annotations

from orchestration.identifiers import is_identifier
from orchestration.models import Pool, Workflow
from realtime.database import DataLoader, in_database_thread
from realtime.limits import Limits
from realtime.protocol.messages import PoolStatusData, WorkflowStatusData
from realtime.queries.definitions import DefinitionList, DefinitionQueries


class StatusQueries:
    """The loaders of one event loop."""

    def __init__(self, limits: Limits) -> None:
        self._definitions = DefinitionQueries(max_bytes=limits.replay_chunk_bytes)
        self._pools = DataLoader(_read_pools, run=in_database_thread)
        self._workflows = DataLoader(_read_workflows, run=in_database_thread)

    async def pool(self, pool_id: str) -> PoolStatusData | None:
        """Return the status of a pool; None if it does not exist."""
        return await self._pools.get(pool_id) if is_identifier(pool_id) else None

    async def workflow(self, workflow_id: str) -> WorkflowStatusData | None:
        """Return the status of a workflow; None if it does not exist."""
        return await self._workflows.get(workflow_id) if is_identifier(workflow_id) else None

    async def definitions(self) -> DefinitionList:
        """Return the defined workflows."""
        return await self._definitions.listed()


def _read_pools(pool_ids: list[str]) -> dict[str, PoolStatusData]:
    rows = Pool.objects.filter(pk__in=pool_ids).order_by("workers__pk").values_list("pk", "status", "workers__pk")
    found: dict[str, PoolStatusData] = {}
    for pool_id, status, worker_id in rows:
        pool = found.setdefault(pool_id, PoolStatusData(pool_id=pool_id, status=status, workers=[]))
        if worker_id is not None:
            pool.workers.append(worker_id)
    return found


def _read_workflows(workflow_ids: list[str]) -> dict[str, WorkflowStatusData]:
    fields = ("pk", "status", "stages_completed", "total_stages")
    return {
        workflow_id: WorkflowStatusData(
            workflow_id=workflow_id, status=status, stages_completed=stages_completed, total_stages=total_stages
        )
        for workflow_id, status, stages_completed, total_stages in Workflow.objects.filter(
            pk__in=workflow_ids
        ).values_list(*fields)
    }
