"""Count workflows by status, for `list_workflows`. The cost has a bound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from django.db import connection

from orchestration.models import WorkflowStatus
from realtime.queries.pages import MAX_EXAMINED_ROWS
from realtime.queries.workflow_filters import CREATED, NEWEST_FIRST, WorkflowFilters

MAX_COUNTED_WORKFLOWS: Final = 10_000
"""Workflows of one status that are counted, and that are examined if the count has other filters than the time."""


def count_by_status(filters: WorkflowFilters) -> tuple[dict[str, int], int]:
    """Return how many workflows that pass the filters have each status that occurs, and how many were examined.

    Each status is counted up to `MAX_COUNTED_WORKFLOWS`. With a name or a pool, the newest ones of that name or pool
    are examined, as many as that; with a text, `MAX_EXAMINED_ROWS`.
    """
    filters = replace(filters, statuses=())
    (column, *_) = filters.ranges()
    rows = _by_row(filters, column) if column != CREATED or filters.text is not None else _by_index(filters)
    return {status: count for status, count, _ in rows if count}, sum(examined for *_, examined in rows)


def _by_index(filters: WorkflowFilters) -> list[tuple[str, int, int]]:
    statuses = WorkflowStatus.values
    windows = replace(filters, statuses=tuple(statuses)).windows("status")
    # Without the order, Postgres may search the table for a status that it expects to be frequent.
    order = f"ORDER BY created_at DESC LIMIT {MAX_COUNTED_WORKFLOWS}"
    counts = [f"(SELECT COUNT(*) FROM (SELECT 1 FROM {window.rows} {order}) AS counted)" for window in windows]
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(counts)}", [value for window in windows for value in window.values])
        found: tuple[int, ...] = cursor.fetchone()
    return [(status, count, count) for status, count in zip(statuses, found, strict=True)]


def _by_row(filters: WorkflowFilters, column: str) -> list[tuple[str, int, int]]:
    (window,) = filters.windows(column)
    others = filters.others(column)
    size = MAX_COUNTED_WORKFLOWS if filters.text is None else MAX_EXAMINED_ROWS
    sql = f"""
SELECT status, SUM(matches), COUNT(*)
FROM (
    SELECT status, CASE WHEN {others.sql} THEN 1 ELSE 0 END AS matches
    FROM {window.rows} ORDER BY {NEWEST_FIRST} LIMIT {size}
) AS examined
GROUP BY status ORDER BY status
"""
    with connection.cursor() as cursor:
        cursor.execute(sql, [*others.values, *window.values])
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return [(status, int(count), examined) for status, count, examined in rows]
