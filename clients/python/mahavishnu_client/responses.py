"""The data of every response. Written by `make clients` from the structs of the server."""

from __future__ import annotations

from datetime import datetime

import msgspec

from mahavishnu_client.state import PoolRow, RunRow, StageState


class ListedRun(RunRow, frozen=True, kw_only=True):
    """A run in the response to `list_workflows`.

    Attributes:
        adapter: What runs its stages.
        prompt: The beginning of its prompt.
        error: The beginning of its error.
    """

    adapter: str
    prompt: str
    error: str


class ListedPool(PoolRow, frozen=True, kw_only=True):
    """A pool in the response to `list_pools`.

    Attributes:
        created_at: When it was created.
    """

    created_at: datetime


class PoolStatusData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The response to `get_pool_status`. `workers` are the ids of all workers of the pool."""

    pool_id: str
    status: str
    workers: tuple[str, ...]


class WorkflowStatusData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The response to `get_workflow_status`."""

    workflow_id: str
    status: str
    stages_completed: int
    total_stages: int


class StageListData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The response to `list_stages`.

    Attributes:
        workflow_id: The workflow.
        seq: Position of the event log at which the page was read.
        epoch: The log that `seq` belongs to.
        stages: The stages of the page, in order.
        next_after: The value of `after` for the next page; null after the last one.
        stage_counts: How many stages have each status that occurs. Set in the first page.
    """

    workflow_id: str
    seq: int
    epoch: str
    stages: tuple[StageState, ...]
    next_after: int | None
    stage_counts: dict[str, int] = {}
