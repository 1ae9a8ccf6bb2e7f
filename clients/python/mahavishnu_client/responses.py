"""The data of every response. Written by `make clients` from the structs of the server."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from mahavishnu_client.state import PoolRow, Run, RunRow, StageState, Worker


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


class ListedWait(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a stage waits for, or waited for, in the response to `list_waits`.

    Attributes:
        wait_id: A number that no other wait has.
        workflow_id: The run.
        workflow_name: The name of its workflow; empty if it has none.
        stage_name: The stage.
        name: The name under which it is answered; that of the signal.
        kind: `ask` for an answer, `signal` for a signal, `sleep` for a time.
        status: open, answered, expired or closed.
        title: What is asked; may be empty.
        schema: The JSON Schema of the answer; empty for any.
        recipients: Who should answer.
        opened_at: When the stage began to wait.
        expires_at: When the wait ends without an answer, if it does.
        by: Who answered; empty if that is unknown.
        answered_at: When the wait ended; None if it is open, or was closed.
    """

    wait_id: int
    workflow_id: str
    workflow_name: str
    stage_name: str
    name: str
    kind: str
    status: str
    title: str
    schema: dict[str, Any]
    recipients: tuple[str, ...]
    opened_at: datetime
    expires_at: datetime | None
    by: str
    answered_at: datetime | None


class ListedEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An event in the response to `list_events`.

    Attributes:
        id: A UUID, the same in each channel.
        event: Its name.
        data: Its data as received.
        timestamp: When the change happened.
        seq: Its position in the event log.
    """

    id: str
    event: str
    data: dict[str, Any]
    timestamp: datetime
    seq: int


class ClientLimits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The limits that a client needs to know; `realtime.limits.Limits` describes them."""

    max_message_bytes: int
    max_subscriptions: int
    max_messages_per_second: float
    max_message_burst: int
    max_replay_events: int
    max_event_data_bytes: int


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


class WorkflowData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The response to `get_workflow`. `workflow` is what a snapshot of its channel has."""

    workflow_id: str
    seq: int
    epoch: str
    workflow: Run


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


class StageResultData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
    too_large: bool | None = None


class WorkflowListData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
    workflows: tuple[ListedRun, ...]
    next_cursor: str | None
    counts: dict[str, int] = {}


class PoolListData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The response to `list_pools`. Its fields are like those of `list_workflows`."""

    seq: int
    epoch: str
    pools: tuple[ListedPool, ...]
    next_cursor: str | None


class WorkerListData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The response to `list_workers`. Its fields are like those of `list_workflows`."""

    seq: int
    epoch: str
    workers: tuple[Worker, ...]
    next_cursor: str | None


class WaitListData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The response to `list_waits`. Its fields are like those of `list_workflows`."""

    seq: int
    epoch: str
    waits: tuple[ListedWait, ...]
    next_cursor: str | None


class EventListData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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
    events: tuple[ListedEvent, ...]
    has_more: bool
    next_seq: int | None


class PoolHistoryData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
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


class DefinitionListData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The response to `list_definitions`.

    Attributes:
        definitions: The workflows that can be started, sorted by name.
        truncated: Set if some of them were left out, because of their size.
    """

    definitions: Any
    truncated: bool | None = None


class ServerStatusData(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The response to `get_server_status`: what `/health` reports, for clients.

    Attributes:
        status: `healthy`, `unhealthy` or `draining`.
        server_version: The version of the server.
        protocol_version: The version of the protocol.
        ping_after_ms: How long a client receives nothing before it should send a ping.
        limits: The limits of the server.
        connections: Open WebSocket connections of this process.
        database: `up` or `down`.
        redis: `up` or `down`.
        relay: `up` or `down`.
        scheduler: `up`, `down` or `off`; null while the database is down.
        relay_lag_ms: Time from the last event to its delivery; null while the database is down.
        problems: A sentence for each part that is down or cannot be written.
        seq: Position of the event log; null while the database is down.
        epoch: The log that `seq` belongs to; null while the database is down.
    """

    status: str
    server_version: str | None = None
    protocol_version: int | None = None
    ping_after_ms: int | None = None
    limits: ClientLimits
    connections: int
    database: str
    redis: str
    relay: str
    scheduler: str | None
    relay_lag_ms: float | None
    problems: tuple[str, ...]
    seq: int | None
    epoch: str | None
