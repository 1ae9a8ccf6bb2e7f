"""Dispatch the stages of a wide run a few at a time, so that its messages do not delay the runs behind it.

Workers take the messages of a pool in the order in which they were sent. So the broker holds at most a window of
messages of one run: what the slots of the pool take soon. All ready stages of a step are queued at once; those that
are not dispatched yet have no `dispatch_due_at`. Each claim dispatches the next ones, by position. The scheduler does
so if slots were added, or if a window has no messages for another reason.

A run whose stages have own pools has a window in each of its pools. The claim of a stage fills the window of
its pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, Final

from django.db import transaction
from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery
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


def _count_dispatched(**of: Any) -> Coalesce:
    dispatched = Stage.objects.filter(status=StageStatus.QUEUED, dispatch_due_at__isnull=False, **of).order_by()
    return Coalesce(Subquery(dispatched.values("workflow_id").annotate(count=Count("pk")).values("count")), 0)


_DISPATCHED: Final = _count_dispatched(workflow_id=OuterRef("pk"))
_HAS_OWN_POOLS: Final = ~Q(own_pools="")


def window_size(slots: int) -> int:
    """Return how many messages of one run the broker may hold for a pool with this many slots."""
    return max(MIN_WINDOW_MESSAGES, slots + min(slots, MAX_REFILL_MESSAGES))


def window_room(workflow: Workflow, pool_id: str | None) -> int:
    """Return how many more stages of a locked workflow may be dispatched now in this pool."""
    if workflow.total_stages <= MAX_NARROW_STAGES:
        return MAX_NARROW_STAGES
    if workflow.has_undispatched_stages and (not workflow.own_pools or _undispatched_in(workflow, pool_id, 1)):
        return 0  # They are dispatched first, by the next claim.
    window = _window(workflow, pool_id)
    room: int = window_size(window.slots) - window.dispatched
    return max(0, room)


def in_new_windows(stages: Sequence[Stage]) -> tuple[list[Stage], list[Stage]]:
    """Return those of the first stages of a new run that may be dispatched, and the others."""
    if len(stages) <= MAX_NARROW_STAGES:
        return list(stages), []
    # The transaction that stores the stages rejects a pool that has been removed meanwhile.
    rooms = {stage.pool_id or "": MIN_WINDOW_MESSAGES for stage in stages}
    for pool in Pool.objects.filter(pk__in={stage.pool_id for stage in stages}):
        rooms[pool.pk] = window_size(pool.active_workers + pool.idle_workers + pool.error_workers)
    dispatched: list[Stage] = []
    undispatched: list[Stage] = []
    for stage in stages:
        pool_id = stage.pool_id or ""
        (dispatched if rooms[pool_id] > 0 else undispatched).append(stage)
        rooms[pool_id] -= 1
    return dispatched, undispatched


def fill_window(workflow: Workflow, pool_id: str | None) -> int:
    """Dispatch the next undispatched stages of a locked workflow in a pool, unless enough are. Return their number.

    A window is filled when it holds fewer messages than the pool has slots: then each slot still finds one.
    """
    window = _window(workflow, pool_id)
    if window.dispatched >= max(1, window.slots):
        return 0
    room = min(window_size(window.slots) - window.dispatched, MAX_REFILL_MESSAGES)
    found = _undispatched_in(workflow, pool_id, room + 1)
    stages = found[:room]
    dispatch_queued(stages)
    if len(found) <= room and not (workflow.own_pools and _undispatched(1).rows(workflow.pk)):
        mark_undispatched(workflow, False)
    return len(stages)


def fill_windows(workflow: Workflow) -> int:
    """Fill the windows of a locked workflow in all its pools. Return how many stages are dispatched."""
    return sum(fill_window(workflow, pool_id) for pool_id in workflow.pool_ids)


def dispatch_queued(stages: Sequence[Stage]) -> None:
    """Dispatch locked queued stages, which the broker has no messages for, after the commit."""
    found = Stage.objects.filter(pk__in=[stage.pk for stage in stages])
    found.update(refused_until=None, dispatch_due_at=dispatch_due_at())
    dispatch_after_commit([message_for(stage) for stage in stages])


def refill_window(workflow_id: str) -> int:
    """Fill the window of a run, if it still has undispatched stages. Return how many are dispatched."""
    undispatched = Workflow.objects.filter(pk=workflow_id, has_undispatched_stages=True)
    with transaction.atomic():
        workflow = undispatched.select_for_update(no_key=True).first()
        return 0 if workflow is None else fill_windows(workflow)


def runs_with_small_window() -> QuerySet[Workflow]:
    """Select the runs whose window is to be filled, oldest first, and those that may have a window in several pools."""
    undispatched = Workflow.objects.filter(has_undispatched_stages=True).annotate(dispatched=_DISPATCHED)
    small = undispatched.filter(_HAS_OWN_POOLS | Q(dispatched__lt=Greatest(_SLOTS, 1)))
    return small.order_by("created_at", "pk").only("pk", "created_at")


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


_WINDOW_IN_POOL: Final = CompiledSelect(
    lambda workflow_id, pool_id: (
        Pool.objects.filter(pk=pool_id)
        .annotate(
            slots=F("active_workers") + F("idle_workers") + F("error_workers"),
            dispatched=_count_dispatched(workflow_id=workflow_id, pool_id=OuterRef("pk")),
        )
        .only("pk")
    ),
    str,
    str,
)


def _window(workflow: Workflow, pool_id: str | None) -> Any:
    """Return a row with the number of `slots` of the pool, and of stages that are `dispatched` and not claimed."""
    if workflow.own_pools and pool_id is not None:
        return _WINDOW_IN_POOL.row(workflow.pk, pool_id)
    return _WINDOW.row(workflow.pk)


def _undispatched_in(workflow: Workflow, pool_id: str | None, limit: int) -> list[Stage]:
    """Lock the next undispatched stages of a locked workflow in a pool."""
    if workflow.own_pools and pool_id is not None:
        return _undispatched_in_pool(limit).rows(workflow.pk, pool_id)
    return _undispatched(limit).rows(workflow.pk)


def _undispatched_stages(workflow_id: Any) -> QuerySet[Stage]:
    undispatched = Stage.objects.filter(workflow_id=workflow_id, status=StageStatus.QUEUED, dispatch_due_at=None)
    # The first column is the same in all rows; with it, Postgres reads them in the order of the index.
    ordered = undispatched.filter(refused_until=None).order_by("dispatch_due_at", "position")
    return ordered.select_for_update(no_key=True).only("pk", "attempt", "pool_id")


@lru_cache(maxsize=MAX_REFILL_MESSAGES + 1)
def _undispatched(limit: int) -> CompiledSelect[Stage]:
    return CompiledSelect(lambda workflow_id: _undispatched_stages(workflow_id)[:limit], str)


@lru_cache(maxsize=MAX_REFILL_MESSAGES + 1)
def _undispatched_in_pool(limit: int) -> CompiledSelect[Stage]:
    return CompiledSelect(
        lambda workflow_id, pool_id: _undispatched_stages(workflow_id).filter(pool_id=pool_id)[:limit], str, str
    )
