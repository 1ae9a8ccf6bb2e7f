"""The requests of clients: their names, and the fields of their data."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal

import msgspec

MAX_SEQ = 2**63 - 1
"""Largest position of an event log: a signed 64-bit integer in both databases."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of one request. `event` is the name of the request."""

    event: ClassVar[str]


class Subscribe(Request, frozen=True, kw_only=True):
    """Subscribe to the events of `channel`: from now on, or after the position `since` in the log `epoch`.

    The channel of a stream has chunks instead: from the `offset` on, in bytes, if the stage still has that `attempt`.
    """

    event: ClassVar[str] = "subscribe"
    channel: str
    since: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)] | None = None
    epoch: str | None = None
    snapshot: bool = False
    offset: Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)] | None = None
    attempt: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None


class Unsubscribe(Request, frozen=True, kw_only=True):
    """End the subscription to `channel`."""

    event: ClassVar[str] = "unsubscribe"
    channel: str


class GetPoolStatus(Request, frozen=True, kw_only=True):
    """Ask for the status and the workers of one pool."""

    event: ClassVar[str] = "get_pool_status"
    pool_id: str


class GetWorkflowStatus(Request, frozen=True, kw_only=True):
    """Ask for the status and the progress of one workflow."""

    event: ClassVar[str] = "get_workflow_status"
    workflow_id: str


class QueuedRequest(Request, frozen=True, kw_only=True):
    """A request whose read may be large. It waits in the queue of the replays, and a connection has one there."""


StageStatusName = Literal["pending", "queued", "running", "waiting", "completed", "failed", "skipped", "cancelled"]
WorkflowStatusName = Literal["pending", "running", "completed", "failed", "cancelled", "timeout"]
PoolStatusName = Literal["active", "draining", "closed"]
WorkerStatusName = Literal["idle", "busy", "error", "offline"]

WaitStatusName = Literal["open", "answered", "expired", "closed"]
WaitKindName = Literal["ask", "signal", "sleep"]

MAX_LISTED_ROWS = 200
"""Stages, workflows, pools, workers or waits that one request may ask for."""

MAX_LISTED_EVENTS = 500
"""Events that one `list_events` may ask for."""

MAX_NAME_CHARACTERS = 128
"""Characters of the longest name of a workflow, a stage or a wait."""

MAX_SEARCH_CHARACTERS = 200
"""Characters of the text that `list_workflows` searches."""

MAX_RECIPIENT_CHARACTERS = 128
"""Characters of the longest recipient of a question."""

MAX_SELECTED_RECIPIENTS = 20
"""Recipients that one `list_waits` may select."""

MAX_EVENT_NAMES = 64
"""Names of events that one `list_events` may select."""

_Limit = Annotated[int, msgspec.Meta(ge=1, le=MAX_LISTED_ROWS)]
_Seq = Annotated[int, msgspec.Meta(ge=0, le=MAX_SEQ)]
_Cursor = Annotated[str, msgspec.Meta(max_length=512)]
_Time = Annotated[datetime, msgspec.Meta(tz=True)]


class GetWorkflow(QueuedRequest, frozen=True, kw_only=True):
    """Ask for the state of one workflow, as in a snapshot of its channel."""

    event: ClassVar[str] = "get_workflow"
    workflow_id: str


class ListStages(QueuedRequest, frozen=True, kw_only=True):
    """Ask for stages of one workflow, behind the position `after`, with the statuses `status` or any.

    With `item_of`, these are the items of the stage of that name.
    """

    event: ClassVar[str] = "list_stages"
    workflow_id: str
    item_of: Annotated[str, msgspec.Meta(max_length=MAX_NAME_CHARACTERS)] | None = None
    status: StageStatusName | Annotated[list[StageStatusName], msgspec.Meta(min_length=1, max_length=8)] | None = None
    after: Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)] | None = None
    limit: _Limit = 100


class GetStageResult(QueuedRequest, frozen=True, kw_only=True):
    """Ask for the whole result of one stage or item, of which events may have a part."""

    event: ClassVar[str] = "get_stage_result"
    workflow_id: str
    stage_name: Annotated[str, msgspec.Meta(max_length=MAX_NAME_CHARACTERS)]


class ListWorkflows(QueuedRequest, frozen=True, kw_only=True):
    """Ask for the workflows that pass all filters, the newest first, and for their number by status.

    `from` and `to` limit the time of their creation: from the first one on, and before the second one.
    `finished_from` selects those that have finished, at that time or later. `parent_id` selects the sub-runs of a
    workflow, and `root_id` all workflows below it.
    """

    event: ClassVar[str] = "list_workflows"
    status: (
        WorkflowStatusName | Annotated[list[WorkflowStatusName], msgspec.Meta(min_length=1, max_length=6)] | None
    ) = None
    name: Annotated[str, msgspec.Meta(max_length=MAX_NAME_CHARACTERS)] | None = None
    pool_id: str | None = None
    parent_id: str | None = None
    root_id: str | None = None
    q: Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_SEARCH_CHARACTERS)] | None = None
    created_from: _Time | None = msgspec.field(default=None, name="from")
    created_before: _Time | None = msgspec.field(default=None, name="to")
    finished_from: _Time | None = None
    cursor: _Cursor | None = None
    limit: _Limit = 100
    counts: bool = False


class ListPools(QueuedRequest, frozen=True, kw_only=True):
    """Ask for the pools, in the order of their ids."""

    event: ClassVar[str] = "list_pools"
    status: PoolStatusName | Annotated[list[PoolStatusName], msgspec.Meta(min_length=1, max_length=3)] | None = None
    cursor: _Cursor | None = None
    limit: _Limit = 100


class ListWorkers(QueuedRequest, frozen=True, kw_only=True):
    """Ask for the workers of one pool or of all, in the order of their ids."""

    event: ClassVar[str] = "list_workers"
    pool_id: str | None = None
    status: WorkerStatusName | Annotated[list[WorkerStatusName], msgspec.Meta(min_length=1, max_length=4)] | None = None
    cursor: _Cursor | None = None
    limit: _Limit = 100


_Recipient = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_RECIPIENT_CHARACTERS)]


class ListWaits(QueuedRequest, frozen=True, kw_only=True):
    """Ask for what stages of one workflow or of all wait for, the newest first: what is open, or has `status`.

    `kind` selects questions, signals or times, and `to` the questions for one of these recipients.
    """

    event: ClassVar[str] = "list_waits"
    workflow_id: str | None = None
    status: WaitStatusName | Annotated[list[WaitStatusName], msgspec.Meta(min_length=1, max_length=4)] = "open"
    kind: WaitKindName | Annotated[list[WaitKindName], msgspec.Meta(min_length=1, max_length=3)] | None = None
    to: (
        _Recipient | Annotated[list[_Recipient], msgspec.Meta(min_length=1, max_length=MAX_SELECTED_RECIPIENTS)] | None
    ) = None
    cursor: _Cursor | None = None
    limit: _Limit = 100


class ListEvents(QueuedRequest, frozen=True, kw_only=True):
    """Ask for events of one channel: the newest, the newest below `before`, or the oldest above `after`."""

    event: ClassVar[str] = "list_events"
    channel: str
    before: _Seq | None = None
    after: _Seq | None = None
    names: (
        Annotated[
            list[Annotated[str, msgspec.Meta(min_length=1, max_length=64)]],
            msgspec.Meta(min_length=1, max_length=MAX_EVENT_NAMES),
        ]
        | None
    ) = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_LISTED_EVENTS)] = 100


MAX_HISTORY_MINUTES = 24 * 60
"""How far back one `get_pool_history` may reach: samples are kept for a day."""

MAX_HISTORY_SAMPLES = 1440
"""Samples in one response to `get_pool_history`."""


class GetPoolHistory(QueuedRequest, frozen=True, kw_only=True):
    """Ask for the metrics of one pool in the last `minutes`, with a sample every `step_seconds` or more."""

    event: ClassVar[str] = "get_pool_history"
    pool_id: str
    minutes: Annotated[int, msgspec.Meta(ge=1, le=MAX_HISTORY_MINUTES)] = 60
    step_seconds: Annotated[int, msgspec.Meta(ge=10, le=MAX_HISTORY_MINUTES * 60)] | None = None


class ListDefinitions(Request, frozen=True, kw_only=True):
    """Ask for the workflows that can be started."""

    event: ClassVar[str] = "list_definitions"


class TokenRequest(Request, frozen=True, kw_only=True):
    """A request with a token. No text shows the token."""

    token: str

    def __repr__(self) -> str:
        return f"{type(self).__name__}(token=...)"


class Auth(TokenRequest, frozen=True, kw_only=True):
    """Present a token: as the first message where one is required, or once on an open server."""

    event: ClassVar[str] = "auth"


class RefreshToken(TokenRequest, frozen=True, kw_only=True):
    """Replace the token of this connection by a newer one of the same user."""

    event: ClassVar[str] = "refresh_token"


class GetServerStatus(Request, frozen=True, kw_only=True):
    """Ask for the status of the server, its version and its limits."""

    event: ClassVar[str] = "get_server_status"


REQUESTS: dict[str, type[Request]] = {
    request.event: request
    for request in (
        *(Subscribe, Unsubscribe, GetPoolStatus, GetWorkflowStatus, GetWorkflow),
        *(ListStages, GetStageResult, ListWorkflows, ListPools, ListWorkers, ListWaits, ListEvents),
        *(GetPoolHistory, ListDefinitions, GetServerStatus, Auth, RefreshToken),
    )
}
