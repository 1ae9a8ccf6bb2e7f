"""Read pools and workers page by page, in the order of their ids, for `list_pools` and `list_workers`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from django.db.models import QuerySet

from orchestration.models import Pool, Worker
from realtime.database import consistent_read
from realtime.eventlog.position import current_position
from realtime.limits import Limits
from realtime.protocol.cursors import encode_id_cursor
from realtime.queries.pages import EXAMINED_ROW_BYTES, MAX_EXAMINED_ROWS, BoundedArray, Page
from realtime.queries.resource_state import pool_state, worker_rows, worker_state

Row = TypeVar("Row", Pool, Worker)

State = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolQuery:
    """A page of the pools that have one of the statuses, or any if there are none, behind the id `after`."""

    statuses: tuple[str, ...]
    after: str | None
    limit: int

    @property
    def is_first(self) -> bool:
        return self.after is None

    def read(self, limits: Limits) -> Page:
        """Return the page, in one consistent read."""

        def states(pool_ids: list[str]) -> dict[str, State]:
            pools = Pool.objects.filter(pk__in=pool_ids)
            return {pool.pk: {**pool_state(pool), "created_at": pool.created_at} for pool in pools}

        return _read_page(Pool.objects.all(), self, states, limits)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerQuery:
    """A page of the workers of a pool, or of all pools, as of the pools in a `PoolQuery`."""

    pool_id: str | None
    statuses: tuple[str, ...]
    after: str | None
    limit: int

    @property
    def is_first(self) -> bool:
        return self.after is None

    def read(self, limits: Limits) -> Page:
        """Return the page, in one consistent read."""

        def states(worker_ids: list[str]) -> dict[str, State]:
            rows = worker_rows(Worker.objects.filter(pk__in=worker_ids))
            return {state["worker_id"]: state for state in map(worker_state, rows)}

        workers = Worker.objects.all() if self.pool_id is None else Worker.objects.filter(pool_id=self.pool_id)
        return _read_page(workers, self, states, limits)


def _read_page(
    rows: QuerySet[Row], query: PoolQuery | WorkerQuery, states: Callable[[list[str]], dict[str, State]], limits: Limits
) -> Page:
    """Examine the next rows behind an index, and read the states of those that have one of the statuses."""
    size = MAX_EXAMINED_ROWS if query.statuses else query.limit + 1
    with consistent_read():
        position = current_position()
        behind = rows if query.after is None else rows.filter(pk__gt=query.after)
        examined = list(behind.order_by("pk").values_list("pk", "status")[:size])
        found = [row_id for row_id, status in examined if not query.statuses or status in query.statuses]
        listed = found[: query.limit]
        state = states(listed)
    array = BoundedArray((state[row_id] for row_id in listed), max_bytes=limits.replay_chunk_bytes)
    resume_after = None
    if array.length < len(found):
        resume_after = found[array.length - 1]
    elif len(examined) == size:
        resume_after = examined[-1][0]
    return Page(
        position=position,
        rows=array.text,
        next_cursor=None if resume_after is None else encode_id_cursor(resume_after),
        cost_bytes=array.size_bytes + EXAMINED_ROW_BYTES * len(examined),
    )
