"""Search the next rows behind an index for those that a client wants: a bounded number of them, in one query.

The rows of a window are read in the order of an index, and no more of them than its size. Only then they are compared
with the filters that the index does not have. So no plan of the database can become a search of the whole table.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from django.db import connection

from realtime.protocol.cursors import encode_timed_cursor

# `examined` is the number of rows in the window, in its last row, and 0 in the others.
_WINDOW: Final = """
SELECT {columns}, matches, CASE WHEN number = total THEN total ELSE 0 END AS examined
FROM (
    SELECT {columns}, matches, ROW_NUMBER() OVER (ORDER BY {order}) AS number, COUNT(*) OVER () AS total
    FROM (
        SELECT {columns}, CASE WHEN {matches} THEN 1 ELSE 0 END AS matches
        FROM {rows} ORDER BY {order} LIMIT {size}
    ) AS window_{number}
) AS numbered_{number}
WHERE matches = 1 OR number = total
"""
# The last row of each window comes first, so that the limit leaves it.
_SEARCH: Final = """
SELECT {columns}, matches, examined
FROM (SELECT * FROM ({windows}) AS found ORDER BY (CASE WHEN examined > 0 THEN 0 ELSE 1 END), {order} LIMIT {limit})
    AS chosen
ORDER BY {order}
"""


class Condition(NamedTuple):
    """SQL that is true or false for a row, and its parameters."""

    sql: str
    values: tuple[Any, ...]


def all_of(conditions: Iterable[Condition]) -> Condition:
    """Return the condition that all of them are true."""
    parts = list(conditions)
    sql = " AND ".join(part.sql for part in parts)
    return Condition(sql or "TRUE", tuple(value for part in parts for value in part.values))


def behind(column: str, at: datetime, row_id: str | int) -> Condition:
    """Return the condition of the rows behind one, in the order of a time and then the id, the newest first."""
    adapted = connection.ops.adapt_datetimefield_value(at)
    # The first comparison is the range of the index.
    return Condition(f"{column} <= %s AND ({column} < %s OR id < %s)", (adapted, adapted, row_id))


def timed_cursor(row_id: str | int, at: Any) -> str:
    """Return the cursor of a row with a time as the database has it."""
    if connection.vendor == "sqlite":
        operations: Any = connection.ops  # Its type has no methods of one database.
        at = operations.convert_datetimefield_value(at, None, connection)
    return encode_timed_cursor(at, str(row_id))


@dataclass(frozen=True, slots=True)
class Window:
    """The rows of one range of an index.

    Attributes:
        rows: SQL of the table and the condition of the range: what follows `FROM`.
        values: Its parameters.
    """

    rows: str
    values: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Found:
    """The result of a search.

    Attributes:
        keys: The columns of the wanted rows, in order.
        resume_after: The columns of the row behind which the search continues; None after the last row.
        examined: How many rows were examined.
    """

    keys: list[tuple[Any, ...]]
    resume_after: tuple[Any, ...] | None
    examined: int


def search(
    windows: Sequence[Window],
    *,
    columns: Sequence[str],
    order: str,
    matches: Condition,
    size: int,
    limit: int,
) -> Found:
    """Return the first `limit` rows of one or more windows, merged in order, that match a condition.

    Args:
        windows: Ranges that have no row in common.
        columns: The columns to return.
        order: Their order, in which the index of each range has its rows.
        matches: The condition.
        size: How many rows of each window to examine.
        limit: How many rows to return.
    """
    names = ", ".join(columns)
    parts = [
        _WINDOW.format(columns=names, matches=matches.sql, rows=window.rows, order=order, size=size, number=number)
        for number, window in enumerate(windows)
    ]
    sql = _SEARCH.format(
        columns=names,
        windows=" UNION ALL ".join(f"SELECT * FROM ({part}) AS part_{number}" for number, part in enumerate(parts)),
        order=order,
        limit=len(windows) + limit + 1,
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [value for window in windows for value in (*matches.values, *window.values)])
        rows: list[tuple[Any, ...]] = cursor.fetchall()
    return _found(rows, size=size, limit=limit)


def _found(rows: list[tuple[Any, ...]], *, size: int, limit: int) -> Found:
    total = sum(row[-1] for row in rows)
    keys: list[tuple[Any, ...]] = []
    for *key, matches, examined in rows:
        if matches and len(keys) == limit:
            return Found(keys, resume_after=keys[-1], examined=total)
        if matches:
            keys.append(tuple(key))
        # The window may have further rows, and those of other windows behind them are not in order yet.
        if examined == size:
            return Found(keys, resume_after=tuple(key), examined=total)
    return Found(keys, resume_after=None, examined=total)
