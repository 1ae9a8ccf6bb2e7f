"""The state of runs, stages, workers and pools as clients read it: in snapshots and in lists.

Each kind has its columns, for `values_list`, and a function that makes the JSON-encodable state of one row. What a
later event changes has the same name there.
"""

from __future__ import annotations

from typing import Any, Final

from django.db.models import Case, F, FilteredRelation, JSONField, Q, QuerySet, When
from django.db.models.functions import Left

from orchestration.models import Pool, Stage, StageStatus, WaitStatus, Worker, Workflow
from orchestration.models.child_runs import MAX_LISTED_AWAITED
from orchestration.text import truncate
from realtime.events.types.pool import PoolMetrics

MAX_STAGE_ERROR_CHARACTERS: Final = 4096
"""Longer errors of stages are cut, like the strings of a snapshot that is too large."""

RUN_FIELDS: Final = (
    *("workflow_id", "name", "status", "stages_completed", "total_stages", "pool_id"),
    *("created_at", "started_at", "finished_at", "held"),
)
"""The state of a run without its contents."""

_HELD_COLUMNS: Final = ("held_reason", "held_needs", "held_since")
RUN_COLUMNS: Final = ("pk", *RUN_FIELDS[1:-1], *_HELD_COLUMNS, "reported_by", "parent_id", "root_id")

_STAGE_FIELDS: Final = (
    *("position", "stage_name", "step", "status", "worker_id", "attempt", "last_attempt"),
    *("queued_at", "started_at", "finished_at", "duration_ms", "progress", "message", "error", "retry_at"),
    *("streams", "skip_reason"),
)
_STAGE_COLUMNS: Final = (
    *("position", "name", "step", "status", "worker_id", "attempt", "last_attempt"),
    *("queued_at", "started_at", "finished_at", "duration_ms", "progress", "progress_message", "start_of_error"),
    *("retry_at", "streams", "skip_reason"),
    *("shown_awaited", "map__total", "map__published_completed", "map__published_failed", "map__published_running"),
    *("open_wait__id", "open_wait__name", "open_wait__kind", "open_wait__title", "open_wait__schema"),
    "open_wait__recipients",
    *("open_wait__opened_at", "open_wait__expires_at"),
)
_WAIT_FIELDS: Final = ("wait_id", "name", "kind", "title", "schema", "recipients", "opened_at", "expires_at")
_ERROR: Final = _STAGE_FIELDS.index("error")

_WORKER_FIELDS: Final = (
    *("worker_id", "status", "pool_id", "draining", "release"),
    *("workflow_id", "stage_name", "status_changed_at", "last_heartbeat_at"),
)
_WORKER_COLUMNS: Final = (
    *("pk", "status", "pool_id", "draining", "release"),
    *("stage_workflow_id", "stage__name", "status_changed_at", "last_heartbeat_at", "reported_by"),
)


def run_state(row: dict[str, Any]) -> dict[str, Any]:
    """Return the state of a run, without its contents, from a row with `RUN_COLUMNS`."""
    held = {"reason": row["held_reason"], "needs": row["held_needs"], "since": row["held_since"]}
    state = {field: row["pk" if field == "workflow_id" else field] for field in RUN_FIELDS[:-1]}
    family = {field: row[field] for field in ("parent_id", "root_id") if row[field] is not None}
    return {**state, "held": held if held["reason"] else None, **family, **_reported_by(row["reported_by"])}


def run_rows(runs: QuerySet[Workflow], *columns: str) -> QuerySet[Workflow, dict[str, Any]]:
    """Select what `run_state` needs, and further columns. Others, such as the plan, may be large."""
    rows: QuerySet[Workflow, dict[str, Any]] = runs.values(*RUN_COLUMNS, *columns)
    return rows


def stage_rows(stages: QuerySet[Stage]) -> QuerySet[Stage, tuple[Any, ...]]:
    """Select what `stage_state` needs."""
    cut = stages.annotate(
        start_of_error=Left("error", MAX_STAGE_ERROR_CHARACTERS + 1),
        open_wait=FilteredRelation("waits", condition=Q(waits__status=WaitStatus.OPEN)),
        shown_awaited=Case(
            When(status=StageStatus.WAITING, then=F("child_runs__waits_for")), default=None, output_field=JSONField()
        ),
    )
    return cut.values_list(*_STAGE_COLUMNS)


def stage_state(row: tuple[Any, ...]) -> dict[str, Any]:
    """Return the state of a stage. Fields that only some have, such as `streams` and `wait`, are absent if empty."""
    fields, wait = row[: len(_STAGE_FIELDS)], row[-len(_WAIT_FIELDS) :]
    awaited, total, completed, failed, running = row[len(_STAGE_FIELDS) : -len(_WAIT_FIELDS)]
    state = dict(zip(_STAGE_FIELDS, fields, strict=True))
    if total is not None:
        state["items"] = {"total": total, "completed": completed, "failed": failed, "running": running}
    if wait[0] is not None:
        state["wait"] = wait_state(wait)
    elif awaited and total is None:
        # A stage that has run again, and waits for something else now, has those of its earlier wait.
        state |= {"waits_for_runs": awaited[:MAX_LISTED_AWAITED], "waits_for_count": len(awaited)}
    for field in ("streams", "skip_reason"):
        if not state[field]:
            del state[field]
    return {**state, "error": truncate(state["error"], MAX_STAGE_ERROR_CHARACTERS)}


def wait_state(row: tuple[Any, ...]) -> dict[str, Any]:
    """Return the state of an open wait from its columns, in the order of `_STAGE_COLUMNS`."""
    state = dict(zip(_WAIT_FIELDS, row, strict=True))
    return {**state, "recipients": state["recipients"].splitlines()}


def is_cut(row: tuple[Any, ...]) -> bool:
    """Return whether the error of a stage is longer than its state shows."""
    return len(row[_ERROR]) > MAX_STAGE_ERROR_CHARACTERS


def worker_rows(workers: QuerySet[Worker]) -> QuerySet[Worker, tuple[Any, ...]]:
    """Select what `worker_state` needs."""
    return workers.annotate(stage_workflow_id=F("stage__workflow_id")).values_list(*_WORKER_COLUMNS)


def worker_state(row: tuple[Any, ...]) -> dict[str, Any]:
    """Return the state of a worker."""
    *fields, reported_by = row
    return {**dict(zip(_WORKER_FIELDS, fields, strict=True)), **_reported_by(reported_by)}


def pool_state(pool: Pool) -> dict[str, Any]:
    """Return the state of a pool without its workers."""
    return {
        "pool_id": pool.pk,
        "status": pool.status,
        "metrics": PoolMetrics.of(pool),
        **_reported_by(pool.reported_by),
    }


def _reported_by(reporter: str) -> dict[str, str]:
    """Return the field of a resource that was reported from outside; that of an own one is absent."""
    return {"reported_by": reporter} if reporter else {}
