"""Read workflows page by page, for `list_workflows`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.db.models.functions import Left

from orchestration.models import Workflow
from orchestration.text import truncate
from realtime.database import consistent_read
from realtime.eventlog.position import Position, current_position
from realtime.limits import Limits
from realtime.protocol.cursors import TimedCursor
from realtime.queries.examined_windows import Found, search, timed_cursor
from realtime.queries.pages import EXAMINED_ROW_BYTES, SEARCHED_ROW_BYTES, BoundedArray
from realtime.queries.resource_state import run_rows, run_state
from realtime.queries.workflow_counts import count_by_status
from realtime.queries.workflow_filters import NEWEST_FIRST, WorkflowFilters, widest_range, window_size

MAX_PROMPT_CHARACTERS: Final = 200
MAX_ERROR_CHARACTERS: Final = 1000
"""Longer prompts and errors are cut in lists of workflows."""


@dataclass(frozen=True, slots=True)
class WorkflowPage:
    """Some workflows, the newest first.

    Attributes:
        position: Position of the log. The page has the changes of the events up to here, and of no later one.
        workflows: JSON text of an array.
        next_cursor: Where the next page begins; None after the last page.
        counts: How many workflows have each status that occurs; None if not requested.
        cost_bytes: What the budget of a connection is charged for, as for a `Page`.
    """

    position: Position
    workflows: str
    next_cursor: str | None
    counts: dict[str, int] | None
    cost_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowQuery:
    """A page of the workflows that pass the filters, behind `after`, and if requested their number by status."""

    filters: WorkflowFilters
    after: TimedCursor | None
    limit: int
    with_counts: bool

    @property
    def is_first(self) -> bool:
        return self.after is None

    def read(self, limits: Limits) -> WorkflowPage:
        """Return the page, in one consistent read.

        It has at most `limit` workflows and about `replay_chunk_bytes` bytes, but at least one workflow if one is found
        among those that it examines.
        """
        with consistent_read():
            position = current_position()
            found = self._search()
            states = _states([row[0] for row in found.keys])
            counts, counted = count_by_status(self.filters) if self.with_counts else (None, 0)
        array = BoundedArray(states, max_bytes=limits.replay_chunk_bytes)
        row_bytes = EXAMINED_ROW_BYTES if self.filters.text is None else SEARCHED_ROW_BYTES
        resume_after = found.keys[array.length - 1] if array.length < len(states) else found.resume_after
        return WorkflowPage(
            position=position,
            workflows=array.text,
            next_cursor=None if resume_after is None else timed_cursor(*resume_after),
            counts=counts,
            cost_bytes=array.size_bytes + row_bytes * (found.examined + counted),
        )

    def _search(self) -> Found:
        column = widest_range(self.filters, after=self.after)
        windows = self.filters.windows(column, after=self.after)
        others = self.filters.others(column)
        return search(
            windows,
            columns=("id", "created_at"),
            order=NEWEST_FIRST,
            matches=others,
            size=window_size(len(windows)) if others.values else self.limit + 1,
            limit=self.limit,
        )


def _states(workflow_ids: list[str]) -> list[dict[str, Any]]:
    runs = Workflow.objects.filter(pk__in=workflow_ids).annotate(
        start_of_prompt=Left("prompt", MAX_PROMPT_CHARACTERS + 1),
        start_of_error=Left("error", MAX_ERROR_CHARACTERS + 1),
    )
    found = {run["pk"]: run for run in run_rows(runs, "adapter", "start_of_prompt", "start_of_error")}
    return [
        {
            **run_state(run),
            "adapter": run["adapter"],
            "prompt": truncate(run["start_of_prompt"], MAX_PROMPT_CHARACTERS),
            "error": truncate(run["start_of_error"], MAX_ERROR_CHARACTERS),
        }
        for run in map(found.__getitem__, workflow_ids)
    ]
