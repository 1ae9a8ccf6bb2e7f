"""The data of the responses to lists and whole states. `seq` and `epoch` are the position at which they were read."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType


class StageListData(msgspec.Struct, frozen=True, kw_only=True):
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
    stages: Any
    next_after: int | None
    stage_counts: dict[str, int] | UnsetType = UNSET


class WorkflowData(msgspec.Struct, frozen=True, kw_only=True):
    """The response to `get_workflow`. `workflow` is what a snapshot of its channel has."""

    workflow_id: str
    seq: int
    epoch: str
    workflow: Any


class StageResultData(msgspec.Struct, frozen=True, kw_only=True):
    """The response to `get_stage_result`.

    Attributes:
        workflow_id: The workflow.
        stage_name: The stage.
        seq: Position of the event log at which it was read.
        epoch: The log that `seq` belongs to.
        status: The status of the stage.
        attempt: Its newest attempt; 0 if none has started.
        result: What `workflow.stage_completed` has as `result`, whole; null if the stage has none.
        size_bytes: Its size as JSON.
        too_large: Set if it takes more than one answer may. Then `result` is null, and `size_bytes` is about its size.
    """

    workflow_id: str
    stage_name: str
    seq: int
    epoch: str
    status: str
    attempt: int
    result: Any
    size_bytes: int
    too_large: bool | UnsetType = UNSET


class WorkflowListData(msgspec.Struct, frozen=True, kw_only=True):
    """The response to `list_workflows`.

    Attributes:
        seq: Position of the event log at which the page was read.
        epoch: The log that `seq` belongs to.
        workflows: The workflows of the page, the newest first.
        next_cursor: The value of `cursor` for the next page; null after the last one.
        counts: How many workflows have each status that occurs, for the other filters. Set if requested.
    """

    seq: int
    epoch: str
    workflows: Any
    next_cursor: str | None
    counts: dict[str, int] | UnsetType = UNSET


class PoolListData(msgspec.Struct, frozen=True, kw_only=True):
    """The response to `list_pools`. Its fields are like those of `list_workflows`."""

    seq: int
    epoch: str
    pools: Any
    next_cursor: str | None


class WorkerListData(msgspec.Struct, frozen=True, kw_only=True):
    """The response to `list_workers`. Its fields are like those of `list_workflows`."""

    seq: int
    epoch: str
    workers: Any
    next_cursor: str | None


class WaitListData(msgspec.Struct, frozen=True, kw_only=True):
    """The response to `list_waits`. Its fields are like those of `list_workflows`."""

    seq: int
    epoch: str
    waits: Any
    next_cursor: str | None


class EventListData(msgspec.Struct, frozen=True, kw_only=True):
    """The response to `list_events`.

    Attributes:
        channel: The channel.
        seq: Position of the event log at which the page was read.
        epoch: The log that all positions belong to.
        events: The events of the page, in the order of their positions.
        has_more: Whether there are further events in the direction of the request.
        next_seq: The value of `before`, or of `after` if the request has it, for the next page; null after the last.
    """

    channel: str
    seq: int
    epoch: str
    events: Any
    has_more: bool
    next_seq: int | None


class ListedEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One event in the response to `list_events`. Its fields are those of the message that delivers it."""

    id: str
    event: str
    data: Any
    timestamp: datetime
    seq: int


class PoolHistoryData(msgspec.Struct, frozen=True, kw_only=True):
    """The response to `get_pool_history`.

    Attributes:
        pool_id: The pool.
        step_seconds: The shortest time between two samples.
        samples: The samples, oldest first.
        seq: Position of the event log at which they were read.
        epoch: The log that `seq` belongs to.
    """

    pool_id: str
    step_seconds: int
    samples: Any
    seq: int
    epoch: str


class DefinitionListData(msgspec.Struct, frozen=True, kw_only=True):
    """The response to `list_definitions`.

    Attributes:
        definitions: The workflows that can be started, sorted by name.
        truncated: Set if some of them were left out, because of their size.
    """

    definitions: Any
    truncated: bool | UnsetType = UNSET
