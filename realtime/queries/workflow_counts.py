"""Count workflows by status, for `list_workflows`. The cost has a bound."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from django.db import connection

from orchestration.models import WorkflowStatus
from realtime.queries.pages import MAX_EXAMINED_ROWS
from realtime.queries.workflow_filters import CREATED, NEWEST_FIRST, WorkflowFilters

MAX_COUNTED_WORKFLOWS: Final = 10_000
"""Workflows of one status that are examined for its count, the newest ones; of all, with a name or a pool."""


def count_by_status(filters: WorkflowFilters) -> tuple[dict[str, int], int]:
    """Return how many workflows that pass the filters have each status that occurs, and how many were examined.

    Of each status, the newest `MAX_COUNTED_WORKFLOWS` are examined; with a name or a pool, as many of that name or
    pool; with a text, `MAX_EXAMINED_ROWS`.
    """
    filters = replace(filters, statuses=())
    (column, *_) = filters.ranges()
    rows = _by_row(filters, column) if column != CREATED or filters.text is not None else _by_index(filters)
    return {status: count for status, count, _ in rows if count}, sum(examined for *_, examined in rows)


def _by_index(filters: WorkflowFilters) -> list[tuple[str, int, int]]:
    statuses = WorkflowStatus.values
    filters = replace(filters, statuses=tuple(statuses))
    others = filters.others("status")
    # Without the order, Postgres may search the table for a status that it expects to be frequent.
    order = f"ORDER BY created_at DESC LIMIT {MAX_COUNTED_WORKFLOWS}"
    windows = filters.windows("status")
    counts = [
        f"SELECT {number}, COUNT(matches), COUNT(*) "
        f"FROM (SELECT CASE WHEN {others.sql} THEN 1 END AS matches FROM {window.rows} {order}) AS examined_{number}"
        for number, window in enumerate(windows)
    ]
    with connection.cursor() as cursor:
        values = [value for window in windows for value in (*others.values, *window.values)]
        cursor.execute(" UNION ALL ".join(counts), values)
        rows: list[tuple[int, int, int]] = cursor.fetchall()
    return [(statuses[number], count, examined) for number, count, examined in sorted(rows)]


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
