"""The states that a client holds: of a run, a worker, a pool, and of all of them.

States are immutable. `mahavishnu_client.fold` makes the next one, which shares its unchanged parts with the one before.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeAlias

import msgspec


# Nothing in a state refers back to it, so the garbage collector need not look: `gc=False` also saves 16 bytes each.
class _State(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A part of a state."""


class Hold(_State, frozen=True, kw_only=True):
    """Why no worker can take a run now.

    Attributes:
        reason: `no_worker` or `no_worker_with`.
        needs: What the workers lack; may be empty.
        since: Since when.
    """

    reason: str
    needs: str
    since: datetime


class ItemCounts(_State, frozen=True, kw_only=True):
    """How far the items of a stage are that runs once for each value of a list.

    Attributes:
        total: How many items it has.
        completed: How many of them are completed.
        failed: How many have failed.
        running: How many run.
    """

    total: int
    completed: int
    failed: int
    running: int


class OpenWait(_State, frozen=True, kw_only=True):
    """What a stage waits for, without a slot.

    Attributes:
        wait_id: The wait: a stage that begins again opens another one.
        name: The name under which it is answered; that of the signal.
        kind: `ask` for an answer, `signal` for a signal, `sleep` for a time.
        title: What is asked; may be empty.
        schema: The JSON Schema of the answer; empty for any.
        recipients: Who should answer.
        opened_at: Since when it waits.
        expires_at: When the wait ends without an answer, if it does.
    """

    wait_id: int
    name: str
    kind: str
    title: str
    schema: dict[str, Any]
    recipients: tuple[str, ...]
    opened_at: datetime
    expires_at: datetime | None


class OpenedStream(_State, frozen=True, kw_only=True):
    """A stream of chunks of a stage; `client.stream` reads it.

    Attributes:
        name: Its name.
        attempt: The last attempt that has opened it.
        content_type: `text` or `bytes`.
    """

    name: str
    attempt: int
    content_type: str


class StageState(_State, frozen=True, kw_only=True):
    """A stage of a run.

    Attributes:
        position: 0 for the first stage.
        stage_name: Its name.
        step: Stages of one step run in parallel.
        status: pending, queued, running, waiting, completed, failed, skipped or cancelled.
        worker_id: The worker that runs it, or ran it last.
        attempt: How many times it was started.
        last_attempt: The number of the attempt after which a failure is final.
        queued_at: When it was last queued.
        started_at: When its last attempt started.
        finished_at: When it finished.
        duration_ms: How long its last attempt took, or what the stage reported.
        progress: From 0 to 1, if the running attempt has reported it.
        message: What it reported with its progress; may be empty.
        error: Why it failed.
        retry_at: When it is queued again after a failed attempt.
        items: How far its items are, if it runs once for each value of a list.
        wait: What it waits for, if it waits for an answer, a signal or a time.
        waits_for_runs: The first sub-runs that it waits for, if it waits for some.
        waits_for_count: How many they are, with those that are not listed.
        streams: The streams of chunks that it has opened, by name.
        skip_reason: Why it is skipped; may be empty.
    """

    position: int
    stage_name: str
    step: int
    status: str = "pending"
    worker_id: str | None = None
    attempt: int = 0
    last_attempt: int
    queued_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration_ms: int | None = None
    progress: float | None = None
    message: str = ""
    error: str = ""
    retry_at: datetime | None = None
    items: ItemCounts | None = None
    wait: OpenWait | None = None
    waits_for_runs: tuple[str, ...] = ()
    waits_for_count: int = 0
    streams: tuple[OpenedStream, ...] = ()
    skip_reason: str = ""


class RunRow(_State, frozen=True, kw_only=True):
    """A run in a list.

    Attributes:
        workflow_id: Its id.
        name: The name of its workflow; empty if it has none.
        status: pending, running, completed, failed, cancelled or timeout.
        stages_completed: How many of its stages are completed.
        total_stages: How many stages it has.
        pool_id: Its pool, if any.
        created_at: When it was created.
        started_at: When it started.
        finished_at: When it finished.
        held: Why no worker can take it now; None if one can.
        parent_id: The run that has started it as a sub-run, if any.
        root_id: The run at the top of the tree of a sub-run; None for others.
        reported_by: Who reported it to the server; empty if it is the server's own.
    """

    workflow_id: str
    name: str
    status: str
    stages_completed: int
    total_stages: int
    pool_id: str | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    held: Hold | None
    parent_id: str | None = None
    root_id: str | None = None
    reported_by: str = ""


class Run(RunRow, frozen=True, kw_only=True):
    """A run with its stages.

    Attributes:
        adapter: What runs its stages.
        prompt: What it is for.
        params: Its parameters.
        deadline_at: When it times out, if it does.
        result: The result of a completed run.
        error: Why it failed, timed out or was cancelled.
        stage_counts: How many stages have each status that occurs.
        stages: Its stages, in order of their positions; the first ones, if the state is truncated.
        truncated: Whether something is missing here: read the state again, or list the stages.
    """

    adapter: str
    prompt: str
    params: dict[str, Any]
    deadline_at: datetime | None
    result: Any
    error: str
    stage_counts: dict[str, int]
    stages: tuple[StageState, ...]
    truncated: bool = False


class Worker(_State, frozen=True, kw_only=True):
    """A worker.

    Attributes:
        worker_id: Its id.
        status: idle, busy, error or offline.
        pool_id: Its pool.
        draining: Whether it starts no further stage.
        release: The release of its code; may be empty.
        workflow_id: The run of the stage that it runs now.
        stage_name: The stage that it runs now.
        status_changed_at: When its status last changed.
        last_heartbeat_at: When its last heartbeat was stored, as of the snapshot. Heartbeats cause no events.
        reported_by: Who reported it to the server; empty if it is the server's own.
        truncated: Whether an event about it was not complete: read the state again.
    """

    worker_id: str
    status: str
    pool_id: str = ""
    draining: bool
    release: str
    workflow_id: str | None
    stage_name: str | None
    status_changed_at: datetime
    last_heartbeat_at: datetime
    reported_by: str = ""
    truncated: bool = False


class PoolMetrics(_State, frozen=True, kw_only=True):
    """The counters of a pool.

    Attributes:
        active_workers: Workers busy now.
        idle_workers: Workers idle now.
        queue_size: Stages queued for the pool.
        tasks_completed: Stages completed since the pool was created.
        tasks_failed: Stages failed since the pool was created.
        tasks_running: Stages of the pool running now.
        worker_count: Workers registered, in any status.
        error_workers: Workers in error now.
    """

    active_workers: int = 0
    idle_workers: int = 0
    queue_size: int = 0
    tasks_completed: int = 0
    tasks_failed: int = 0
    tasks_running: int = 0
    worker_count: int = 0
    error_workers: int = 0


class PoolRow(_State, frozen=True, kw_only=True):
    """A pool in a list.

    Attributes:
        pool_id: Its id.
        status: active, draining or closed.
        metrics: Its counters.
        reported_by: Who reported it to the server; empty if it is the server's own.
    """

    pool_id: str
    status: str
    metrics: PoolMetrics
    reported_by: str = ""


class Pool(PoolRow, frozen=True, kw_only=True):
    """A pool with its workers.

    Attributes:
        workers: Its workers in any status, in order of their ids.
        truncated: Whether something is missing here: read the state again, or list the workers.
    """

    workers: tuple[Worker, ...]
    truncated: bool = False


class Overview(_State, frozen=True, kw_only=True):
    """The unfinished runs and the pools: the state of `global` and of `summary`.

    Attributes:
        workflows: The unfinished runs, newest first.
        pools: The pools, newest first.
        truncated: Whether there are more of them.
    """

    workflows: tuple[RunRow, ...]
    pools: tuple[PoolRow, ...]
    truncated: bool = False


State: TypeAlias = Run | Pool | Worker | Overview
