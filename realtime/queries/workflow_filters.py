"""The filters of `list_workflows` and their SQL. One is the range of an index; the others are compared by row."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from django.db import connection

from realtime.protocol.cursors import TimedCursor
from realtime.queries.examined_windows import Condition, Window, all_of, behind
from realtime.queries.pages import MAX_EXAMINED_ROWS

TABLE: Final = "orchestration_workflow"
NEWEST_FIRST: Final = "created_at DESC, id DESC"

MAX_SEARCHED_CHARACTERS: Final = 1000
"""A search compares the beginning of each prompt and error: a longer one would cost too much."""

CREATED: Final = ""
"""The range of the index on the time of creation alone."""

_SEARCHED: Final = ("prompt", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowFilters:
    """Which workflows a client wants to read. None, and no status, stand for any.

    Attributes:
        statuses: One of these.
        name: The name of the definition.
        pool_id: The pool.
        parent_id: The workflow whose sub-runs they are.
        root_id: The workflow at the top of their tree.
        text: The beginning of the id, or a part of the prompt or of the error, in any case.
        created_from: Not created before this time.
        created_before: Created before this time.
        finished_from: Finished at this time or later.
    """

    statuses: tuple[str, ...] = ()
    name: str | None = None
    pool_id: str | None = None
    parent_id: str | None = None
    root_id: str | None = None
    text: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None
    finished_from: datetime | None = None

    def ranges(self) -> dict[str, tuple[str, ...]]:
        """Return the columns whose index has the order of the list, and the values of each that are wanted."""
        wanted = {
            "name": () if self.name is None else (self.name,),
            "pool_id": () if self.pool_id is None else (self.pool_id,),
            "parent_id": () if self.parent_id is None else (self.parent_id,),
            "root_id": () if self.root_id is None else (self.root_id,),
            "status": self.statuses,
        }
        return {column: values for column, values in wanted.items() if values} or {CREATED: ()}

    def windows(self, column: str, *, after: TimedCursor | None = None) -> list[Window]:
        """Return the ranges of the index that begins with a column, or of `CREATED`, behind a row."""
        created = self._created(after)
        if column == CREATED:
            return [Window(f"{TABLE} WHERE {created.sql}", created.values)]
        return [
            Window(f"{TABLE} WHERE {column} = %s AND {created.sql}", (value, *created.values))
            for value in self.ranges()[column]
        ]

    def others(self, column: str) -> Condition:
        """Return the condition of the filters that such a range does not have."""
        conditions = [
            Condition(f"{each} IN ({', '.join(['%s'] * len(values))})", values)
            for each, values in self.ranges().items()
            if each not in (column, CREATED)
        ]
        return all_of([*conditions, *self._has_finished(), *self._contains_text()])

    def _created(self, after: TimedCursor | None) -> Condition:
        adapt = connection.ops.adapt_datetimefield_value
        conditions = []
        if self.created_from is not None:
            conditions.append(Condition("created_at >= %s", (adapt(self.created_from),)))
        if self.created_before is not None:
            conditions.append(Condition("created_at < %s", (adapt(self.created_before),)))
        if after is not None:
            conditions.append(behind("created_at", *after))
        return all_of(conditions)

    def _has_finished(self) -> list[Condition]:
        if self.finished_from is None:
            return []
        adapt = connection.ops.adapt_datetimefield_value
        return [Condition("finished_at IS NOT NULL AND finished_at >= %s", (adapt(self.finished_from),))]

    def _contains_text(self) -> list[Condition]:
        if self.text is None:
            return []
        parts = [f"SUBSTR({column}, 1, {MAX_SEARCHED_CHARACTERS})" for column in _SEARCHED]
        if connection.vendor == "sqlite" and not self.text.isascii():
            # SQLite's LIKE ignores the case of ASCII letters only. This is the function that Django adds to it.
            pattern = "(?i)" + re.escape(self.text)
            sql = " OR ".join(f"{part} REGEXP %s" for part in parts)
            return [Condition(f"({sql})", (pattern,) * len(parts))]
        like = "LIKE" if connection.vendor == "sqlite" else "ILIKE"
        pattern = re.sub(r"[\\%_]", r"\\\g<0>", self.text)
        sql = " OR ".join(rf"{part} {like} %s ESCAPE '\'" for part in ("id", *parts))
        return [Condition(f"({sql})", (f"{pattern}%", *(f"%{pattern}%" for _ in parts)))]


def widest_range(filters: WorkflowFilters, *, after: TimedCursor | None) -> str:
    """Return the column of the range whose rows that a page examines go back furthest: it has the fewest others.

    This reads one entry of each index, after it has passed as many entries as a page examines.
    """
    ranges = list(filters.ranges())
    if len(ranges) == 1:
        return ranges[0]
    ends: list[tuple[str, Window]] = []
    for column in ranges:
        ends.extend((column, window) for window in filters.windows(column, after=after))
    selects: list[str] = []
    values: list[Any] = []
    for column, window in ends:
        offset = window_size(len(filters.ranges()[column])) - 1
        selects.append(f"(SELECT created_at FROM {window.rows} ORDER BY created_at DESC LIMIT 1 OFFSET {offset})")
        values.extend(window.values)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {', '.join(selects)}", values)
        found: tuple[Any, ...] = cursor.fetchone()
    # A range without an entry there ends before. Of several ranges, the search ends where the first one does.
    reached: dict[str, list[Any]] = {column: [] for column in ranges}
    for (column, _), created_at in zip(ends, found, strict=True):
        if created_at is not None:
            reached[column].append(created_at)
    whole = [column for column in ranges if not reached[column]]
    return whole[0] if whole else min(ranges, key=lambda column: max(reached[column]))


def window_size(count: int) -> int:
    """Return how many rows of each of `count` windows a page examines."""
    return MAX_EXAMINED_ROWS // count
