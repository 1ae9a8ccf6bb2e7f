"""Read what stages wait for page by page, for `list_waits`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.db import connection

from orchestration.models import Wait
from realtime.database import consistent_read
from realtime.eventlog.position import current_position
from realtime.limits import Limits
from realtime.protocol.cursors import TimedCursor
from realtime.queries.examined_windows import Condition, Found, Window, all_of, behind, search, timed_cursor
from realtime.queries.pages import EXAMINED_ROW_BYTES, MAX_EXAMINED_ROWS, BoundedArray, Page

_TABLE: Final = "orchestration_wait"

_FIELDS: Final = (
    *("wait_id", "workflow_id", "workflow_name", "stage_name", "name", "kind", "status", "title", "schema"),
    *("recipients", "opened_at", "expires_at", "by", "answered_at"),
)
_COLUMNS: Final = (
    *("pk", "workflow_id", "workflow__name", "stage__name", "name", "kind", "status", "title", "schema"),
    *("recipients", "opened_at", "expires_at", "answered_by", "answered_at"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitQuery:
    """A page of the waits that pass all filters, the newest first.

    Attributes:
        workflow_id: Of this workflow; None for any.
        statuses: With one of these statuses; at least one.
        kinds: Of one of these kinds; empty for any.
        recipients: For one of these recipients; empty for any.
        after: The row behind which the page begins; None for the first page.
        limit: The most waits of the page.
    """

    workflow_id: str | None
    statuses: tuple[str, ...]
    kinds: tuple[str, ...]
    recipients: tuple[str, ...]
    after: TimedCursor | None
    limit: int

    @property
    def is_first(self) -> bool:
        return self.after is None

    def read(self, limits: Limits) -> Page:
        """Return the page, in one consistent read."""
        with consistent_read():
            position = current_position()
            found = self._search()
            states = _states([row[0] for row in found.keys])
        array = BoundedArray(states, max_bytes=limits.replay_chunk_bytes)
        resume_after = found.keys[array.length - 1] if array.length < len(states) else found.resume_after
        return Page(
            position=position,
            rows=array.text,
            next_cursor=None if resume_after is None else timed_cursor(*resume_after),
            cost_bytes=array.size_bytes + EXAMINED_ROW_BYTES * found.examined,
        )

    def _search(self) -> Found:
        """Examine the next rows of the index of the workflow, or of that of each status."""
        rest = all_of([] if self.after is None else [behind("opened_at", self.after.at, int(self.after.id))])
        others = [_is_one_of("kind", self.kinds), _has_recipient(self.recipients)]
        if self.workflow_id is None:
            ranges = [("status", status) for status in self.statuses]
        else:
            ranges = [("workflow_id", self.workflow_id)]
            others.append(_is_one_of("status", self.statuses))
        matches = all_of([other for other in others if other.values])
        windows = [
            Window(f"{_TABLE} WHERE {column} = %s AND {rest.sql}", (value, *rest.values)) for column, value in ranges
        ]
        return search(
            windows,
            columns=("id", "opened_at"),
            order="opened_at DESC, id DESC",
            matches=matches,
            size=MAX_EXAMINED_ROWS // len(ranges) if matches.values else self.limit + 1,
            limit=self.limit,
        )


def _is_one_of(column: str, values: tuple[str, ...]) -> Condition:
    return Condition(f"{column} IN ({', '.join(['%s'] * len(values))})", values)


def _has_recipient(recipients: tuple[str, ...]) -> Condition:
    """Return the condition that one of the lines of `recipients` is one of these."""
    position = "INSTR" if connection.vendor == "sqlite" else "STRPOS"
    each = f"{position}(%s || recipients || %s, %s) > 0"
    lines = (value for recipient in recipients for value in ("\n", "\n", f"\n{recipient}\n"))
    return Condition(f"({' OR '.join([each] * len(recipients))})", tuple(lines))


def _states(wait_ids: list[int]) -> list[dict[str, Any]]:
    rows = Wait.objects.filter(pk__in=wait_ids).order_by("-opened_at", "-pk").values_list(*_COLUMNS)
    states = [dict(zip(_FIELDS, row, strict=True)) for row in rows]
    return [{**state, "recipients": state["recipients"].splitlines()} for state in states]
