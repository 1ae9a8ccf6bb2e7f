"""Dispatch the stages of a wide run a few at a time, so that its messages do not delay the runs behind it.

Workers take the messages of a pool in the order in which they were sent. So the broker holds at most a window of
messages of one run: what the slots of the pool take soon. All waiting stages of a step are queued at once; those that
are not dispatched yet have no `dispatch_due_at`. Each claim dispatches the next ones, by position. The scheduler does
so if slots were added, or if a window has no messages for another reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, F, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce, Greatest

from orchestration.db.clock import database_now
from orchestration.db.compiled import CompiledSelect
from orchestration.dispatch import dispatch_after_commit, message_for
from orchestration.limits import engine_limits
from orchestration.models import Pool, Stage, StageStatus, Workflow

MIN_WINDOW_MESSAGES: Final = 2
"""Size of the window of a pool with one slot or none."""

MAX_NARROW_STAGES: Final = 4
"""Stages of a step that is dispatched at once, without a window."""

MAX_REFILL_MESSAGES: Final = 64
"""Messages that one claim sends at most. More would delay the stage that it starts."""

_SLOTS: Final = Coalesce(F("pool__active_workers") + F("pool__idle_workers") + F("pool__error_workers"), 0)
_DISPATCHED: Final = Coalesce(
    Subquery(
        Stage.objects.filter(workflow_id=OuterRef("pk"), status=StageStatus.QUEUED, dispatch_due_at__isnull=False)
        .order_by()
        .values("workflow_id")
        .annotate(count=Count("pk"))
        .values("count")
    ),
    0,
)


def window_size(slots: int) -> int:
    """Return how many messages of one run the broker may hold for a pool with this many slots."""
    return max(MIN_WINDOW_MESSAGES, slots + min(slots, MAX_REFILL_MESSAGES))


def window_room(workflow: Workflow) -> int:
    """Return how many more stages of a locked workflow may be dispatched now."""
    if workflow.total_stages <= MAX_NARROW_STAGES:
        return MAX_NARROW_STAGES
    if workflow.has_undispatched_stages:
        return 0  # They are dispatched first, by the next claim.
    window = _window(workflow)
    room: int = window_size(window.slots) - window.dispatched
    return max(0, room)


def new_window_room(pool_id: str, *, stages: int) -> int:
    """Return how many of the first stages of a new run may be dispatched."""
    if stages <= MAX_NARROW_STAGES:
        return stages
    pool = Pool.objects.get(pk=pool_id)
    return window_size(pool.active_workers + pool.idle_workers + pool.error_workers)


def fill_window(workflow: Workflow) -> int:
    """Dispatch the next undispatched stages of a locked workflow, unless enough are. Return their number.

    A window is filled when it holds fewer messages than the pool has slots: then each slot still finds one.
    """
    window = _window(workflow)
    if window.dispatched >= max(1, window.slots):
        return 0
    room = min(window_size(window.slots) - window.dispatched, MAX_REFILL_MESSAGES)
    found = _undispatched(room + 1).rows(workflow.pk)
    stages = found[:room]
    dispatch_queued(stages)
    if len(found) <= room:
        mark_undispatched(workflow, False)
    return len(stages)


def dispatch_queued(stages: Sequence[Stage]) -> None:
    """Dispatch locked queued stages, which the broker has no messages for, after the commit."""
    found = Stage.objects.filter(pk__in=[stage.pk for stage in stages])
    found.update(refused_until=None, dispatch_due_at=dispatch_due_at())
    dispatch_after_commit([message_for(stage) for stage in stages])


def refill_window(workflow_id: str) -> int:
    """Fill the window of a run, if it still has undispatched stages. Return how many are dispatched."""
    waiting = Workflow.objects.filter(pk=workflow_id, has_undispatched_stages=True)
    with transaction.atomic():
        workflow = waiting.select_for_update(no_key=True).first()
        return 0 if workflow is None else fill_window(workflow)


def runs_with_small_window() -> QuerySet[Workflow]:
    """Select the runs whose window is to be filled, oldest first."""
    waiting = Workflow.objects.filter(has_undispatched_stages=True).annotate(dispatched=_DISPATCHED)
    return waiting.filter(dispatched__lt=Greatest(_SLOTS, 1)).order_by("created_at", "pk").only("pk", "created_at")


def mark_undispatched(workflow: Workflow, value: bool) -> None:
    """Store whether a locked workflow has undispatched stages."""
    if workflow.has_undispatched_stages == value:
        return
    workflow.has_undispatched_stages = value
    Workflow.objects.filter(pk=workflow.pk).update(has_undispatched_stages=value)


def dispatch_due_at() -> datetime:
    """Return when to dispatch a stage again whose message is sent now, on the clock of the database."""
    return database_now() + timedelta(seconds=engine_limits().redispatch_seconds)


# Compiled, because every claim of a wide run executes them.
_WINDOW: Final = CompiledSelect(
    lambda workflow_id: (
        Workflow.objects.filter(pk=workflow_id).annotate(slots=_SLOTS, dispatched=_DISPATCHED).only("pk")
    ),
    str,
)


def _window(workflow: Workflow) -> Any:
    """Return a row with the number of `slots` of the pool, and of stages that are `dispatched` and not claimed."""
    return _WINDOW.row(workflow.pk)


@lru_cache(maxsize=MAX_REFILL_MESSAGES + 1)
def _undispatched(limit: int) -> CompiledSelect[Stage]:
    return CompiledSelect(
        lambda workflow_id: (
            Stage.objects.filter(workflow_id=workflow_id, status=StageStatus.QUEUED, dispatch_due_at=None)
            .filter(refused_until=None)
            .select_for_update(no_key=True)
            # The first column is the same in all rows; with it, Postgres reads them in the order of the index.
            .order_by("dispatch_due_at", "position")
            .only("pk", "attempt", "pool_id")[:limit]
        ),
        str,
    )
