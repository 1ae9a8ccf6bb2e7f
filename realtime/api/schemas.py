"""The bodies of responses, for the OpenAPI document. The rows are those of the WebSocket's lists."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from ninja import Schema
from pydantic import ConfigDict, Field

from realtime.protocol.problems import ProblemCode
from realtime.protocol.requests import (
    PoolStatusName,
    StageStatusName,
    WaitKindName,
    WaitStatusName,
    WorkerStatusName,
    WorkflowStatusName,
)

Seq = Annotated[int, Field(description="Position of the event log.")]
Epoch = Annotated[str, Field(description="The log that `seq` belongs to.")]
Cursor = Annotated[str | None, Field(description="The value of `cursor` for the next page; null after the last one.")]


class InvalidPart(Schema):
    """A part of a request that is wrong."""

    path: str = Field(description="Where it is, such as `query.limit` or `body.params`.")
    detail: str


class ProblemBody(Schema):
    """Why a request was refused, or failed (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str = Field(description="What is wrong with this request, and what is allowed.")
    code: ProblemCode
    errors: list[InvalidPart] = Field(default=[], description="Each part of the request that is wrong.")


class Held(Schema):
    """Why a running workflow does not advance."""

    reason: str
    needs: list[str]
    since: datetime


class WorkflowRow(Schema):
    """A workflow in a list: texts are cut."""

    workflow_id: str
    name: str
    status: WorkflowStatusName
    stages_completed: int
    total_stages: int
    pool_id: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    held: Held | None
    adapter: str
    prompt: str
    error: str


class Stage(Schema):
    """A stage of a workflow."""

    position: int
    stage_name: str
    step: int
    status: StageStatusName
    worker_id: str | None
    attempt: int
    last_attempt: int | None
    queued_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    duration_ms: int | None
    progress: float | None
    message: str
    error: str
    retry_at: datetime | None


class Metrics(Schema):
    """The counters of a pool."""

    active_workers: int
    idle_workers: int
    queue_size: int
    tasks_completed: int
    tasks_failed: int
    tasks_running: int
    worker_count: int
    error_workers: int


class Sample(Metrics):
    """The counters of a pool at one time."""

    at: datetime


class PoolRow(Schema):
    """A pool in a list."""

    pool_id: str
    status: PoolStatusName
    metrics: Metrics
    created_at: datetime


class WorkerOfPool(Schema):
    """A worker of a pool."""

    worker_id: str
    status: WorkerStatusName
    draining: bool
    release: str
    workflow_id: str | None
    stage_name: str | None
    status_changed_at: datetime
    last_heartbeat_at: datetime


class WorkerRow(WorkerOfPool):
    """A worker."""

    pool_id: str


class WaitRow(Schema):
    """What a stage waits for, or waited for."""

    wait_id: int
    workflow_id: str
    workflow_name: str
    stage_name: str
    name: str
    kind: WaitKindName
    status: WaitStatusName
    title: str
    answer_schema: dict[str, Any] = Field(alias="schema", description="JSON Schema of the answer.")
    recipients: list[str]
    opened_at: datetime
    expires_at: datetime | None
    by: str
    answered_at: datetime | None


class Event(Schema):
    """An event of the log."""

    id: str
    event: str
    data: dict[str, Any]
    timestamp: datetime
    seq: int


class Definition(Schema):
    """A workflow that can be started."""

    name: str
    description: str
    adapter: str
    parameters: dict[str, Any] = Field(description="JSON Schema of the parameters.")


class WorkflowState(Schema):
    """The state of a workflow, as in a snapshot of its channel. Truncated if it is large."""

    model_config = ConfigDict(extra="allow")

    workflow_id: str
    status: WorkflowStatusName


class PoolState(Schema):
    """The state of a pool with its workers, as in a snapshot of its channel. Truncated if it is large."""

    model_config = ConfigDict(extra="allow")

    pool_id: str
    status: PoolStatusName


class Position(Schema):
    """Where the event log was when something was read."""

    seq: Seq
    epoch: Epoch


class WorkflowList(Position):
    """A page of workflows, the newest first."""

    workflows: list[WorkflowRow]
    next_cursor: Cursor
    counts: dict[str, int] = Field(default={}, description="How many have each status, if requested.")


class WorkflowDetail(Position):
    """A workflow."""

    workflow_id: str
    workflow: WorkflowState


class StageList(Position):
    """A page of the stages of a workflow, in order."""

    workflow_id: str
    stages: list[Stage]
    next_after: int | None = Field(description="The value of `after` for the next page; null after the last one.")
    stage_counts: dict[str, int] = Field(default={}, description="How many have each status; in the first page.")


class StageResult(Position):
    """The result of a stage."""

    workflow_id: str
    stage_name: str
    status: StageStatusName
    attempt: int
    result: Any = Field(description="What `workflow.stage_completed` has as `result`, whole; null if there is none.")
    size_bytes: int = Field(description="Its size as JSON.")
    too_large: bool = Field(default=False, description="Whether it is left out, because of its size.")


class PoolList(Position):
    """A page of pools, in the order of their ids."""

    pools: list[PoolRow]
    next_cursor: Cursor


class PoolDetail(Position):
    """A pool."""

    pool_id: str
    pool: PoolState


class PoolHistory(Position):
    """The samples of a pool, the oldest first."""

    pool_id: str
    step_seconds: int
    samples: list[Sample]


class WorkerList(Position):
    """A page of workers, in the order of their ids."""

    workers: list[WorkerRow]
    next_cursor: Cursor


class WorkerDetail(Position):
    """A worker."""

    worker_id: str
    worker: WorkerRow


class WaitList(Position):
    """A page of what stages wait for, the newest first."""

    waits: list[WaitRow]
    next_cursor: Cursor


class EventList(Position):
    """A page of the events of a channel, in the order of their positions."""

    channel: str
    events: list[Event]
    has_more: bool
    next_seq: int | None = Field(description="The value of `before`, or of `after`, for the next page.")


class DefinitionList(Schema):
    """The workflows that can be started, sorted by name."""

    definitions: list[Definition]
    truncated: bool = Field(default=False, description="Whether some were left out, because of their size.")
