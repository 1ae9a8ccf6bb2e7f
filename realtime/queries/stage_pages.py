"""Read the stages of a workflow, or the items of one of them, page by page, for `list_stages`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from django.db.models import Case, Count, Max, Q, QuerySet, When

from orchestration.identifiers import is_identifier
from orchestration.models import Stage, Workflow
from realtime.database import consistent_read
from realtime.eventlog.position import Position, current_position
from realtime.limits import Limits
from realtime.protocol.payload import encode_data, size_in_bytes
from realtime.queries.pages import EXAMINED_ROW_BYTES, MAX_EXAMINED_ROWS
from realtime.queries.resource_state import stage_rows, stage_state


@dataclass(frozen=True, slots=True)
class StagePage:
    """Some stages of a workflow, in the order of their positions.

    Attributes:
        position: Position of the log. The page has the changes of the events up to here, and of no later one.
        stages: JSON text of an array.
        next_after: The position after which the next page begins; None after the last page.
        stage_counts: How many stages have each status that occurs; None if not requested.
        cost_bytes: What the budget of a connection is charged for: the stages, and those that were only examined or
            counted. A page of few stages, or none, may have examined many.
        is_unknown_stage: Whether the workflow has no stage with the name of `item_of`. The page is empty.
    """

    position: Position
    stages: str
    next_after: int | None
    stage_counts: dict[str, int] | None
    cost_bytes: int
    is_unknown_stage: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StageQuery:
    """A page of the stages of a workflow that have one of the statuses, or any, behind the position `after`.

    With `item_of`, it is a page of the items of the stage of that name.
    """

    workflow_id: str
    item_of: str | None = None
    statuses: tuple[str, ...]
    after: int | None
    limit: int

    @property
    def is_first(self) -> bool:
        return self.after is None

    def read(self, limits: Limits) -> StagePage | None:
        """Return the page; None if the workflow does not exist."""
        return read_stage_page(self, max_bytes=limits.max_event_data_bytes)


def read_stage_page(query: StageQuery, *, max_bytes: int) -> StagePage | None:
    """Return the stages behind a position, in one consistent read; None if the workflow does not exist.

    A page has at most `limit` stages and about `max_bytes` bytes, but at least one stage if one is found among the next
    `MAX_EXAMINED_ROWS`. So a page may be empty, and not be the last. The first page has the counts.

    Args:
        query: The page.
        max_bytes: The most bytes of the page.
    """
    if not is_identifier(query.workflow_id):
        return None
    with consistent_read():
        position = current_position()
        if not Workflow.objects.filter(pk=query.workflow_id).exists():
            return None
        stages = stages_of(query.workflow_id)
        column = "position"
        if query.item_of is not None:
            # By its primary key: the index of the items has their order.
            stage_id = stages.filter(name=query.item_of).values_list("pk", flat=True).first()
            if stage_id is None:
                return StagePage(position, "[]", None, stage_counts=None, cost_bytes=0, is_unknown_stage=True)
            stages, column = Stage.objects.filter(item_of=stage_id), "item_index"
        return _read_page(position, query, stages, column, max_bytes=max_bytes)


def _read_page(
    position: Position, query: StageQuery, listed: QuerySet[Stage], column: str, *, max_bytes: int
) -> StagePage:
    """Read the page of these stages behind a value of `column`, which has the values of the position."""
    limit = query.limit
    first = 0 if query.after is None else query.after + 1
    examined = listed.filter(**{f"{column}__gte": first, f"{column}__lt": first + MAX_EXAMINED_ROWS})
    rows = stage_rows(examined.filter(_has_status(query.statuses)).order_by(column))
    texts: list[str] = []
    size_bytes = 0
    last_position = first + MAX_EXAMINED_ROWS - 1
    for number, row in enumerate(rows[: limit + 1]):
        text = encode_data(stage_state(row))
        if number == limit or (texts and size_bytes + size_in_bytes(text) > max_bytes):
            break
        texts.append(text)
        size_bytes += size_in_bytes(text)
        last_position = row[0]
    else:
        last_position = first + MAX_EXAMINED_ROWS - 1
    newest = listed.aggregate(position=Max(column))["position"]
    has_more = newest is not None and newest > last_position
    counts = None if query.after is not None else stage_counts(listed)
    examined_count = max((last_position if has_more else newest or 0) + 1 - first, 0)
    return StagePage(
        position=position,
        stages=f"[{','.join(texts)}]",
        next_after=last_position if has_more else None,
        stage_counts=counts,
        cost_bytes=size_bytes + EXAMINED_ROW_BYTES * examined_count + counting_cost_bytes(counts or {}),
    )


def _has_status(statuses: Collection[str]) -> Q | Case:
    """Return the condition that a stage has one of these statuses, or any if there are none.

    No index applies to a `CASE`. An index that begins with the pool and the status would examine such stages of every
    workflow, where the database expects few of them.
    """
    return Case(When(status__in=statuses, then=True), default=False) if statuses else Q()


def stages_of(workflow_id: str) -> QuerySet[Stage]:
    """Return the stages of a workflow, without their items."""
    return Stage.objects.filter(workflow_id=workflow_id, item_of=None)


def stage_counts(stages: QuerySet[Stage]) -> dict[str, int]:
    """Return how many of these stages have each status that occurs."""
    rows = stages.order_by("status").values_list("status")
    return dict(rows.annotate(Count("pk")))


def counting_cost_bytes(counts: Mapping[str, int]) -> int:
    """Return what the budget of a connection is charged for the result of `stage_counts`."""
    return EXAMINED_ROW_BYTES * sum(counts.values())
